//! Places for a listener's connections. Each class of callers has a share of its own, so that strangers take no place
//! from members, nor clients from managers. Within a share nobody keeps the others out:
//!
//! | a new connection finds | and then |
//! | --- | --- |
//! | its key (an identity, or a source address) at [`Share::each`] | the oldest connection of that key is closed |
//! | the share full, [`Overflow::CloseOldest`] | the oldest connection of the key with the most connections is closed |
//! | the same, but the new connection's key would then have as many, and that oldest one is younger than [`Share::min_age`] | the new connection is refused |
//! | the share full, [`Overflow::Refuse`] | the new connection is refused |
//!
//! The minimum age bounds the work that one source causes: 64 places of 1 s are 64 new connections a second, however fast
//! it connects.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The bytes of an IPv6 address that belong to one network: a host has all addresses of a /64.
const NETWORK_BYTES: usize = 8;

/// What becomes of a connection that finds its class's share full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused. For members, whose connections last.
    Refuse,
    /// The oldest connection of the key with the most connections is closed. For strangers, who must not last.
    CloseOldest,
}

/// Connections of one class of callers.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// At the same time. 0: callers of this class are refused.
    pub places: usize,
    /// At the same time with one key; the oldest is closed to make room.
    pub each: usize,
    pub overflow: Overflow,
    /// With [`Overflow::CloseOldest`]: a younger connection is not closed for one whose key has as many.
    pub min_age: Duration,
    /// A connection is closed after this time. `None`: it may last.
    pub lifetime: Option<Duration>,
}

impl Share {
    /// For callers that have no business here.
    pub const CLOSED: Self = Self::members(0, 0);

    /// For strangers: a connection beyond the share closes the oldest one of the key with most.
    pub const fn closing_oldest(places: usize, each: usize) -> Self {
        Self { overflow: Overflow::CloseOldest, ..Self::members(places, each) }
    }

    /// For members: connections last, and a connection beyond the share is refused.
    pub const fn members(places: usize, each: usize) -> Self {
        Self { places, each, overflow: Overflow::Refuse, min_age: Duration::ZERO, lifetime: None }
    }
}

/// Whom connections are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Source(IpAddr),
    Id(String),
}

/// The address that a caller is counted by: of an IPv6 address its network.
pub fn source(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address.to_canonical() else { return address.to_canonical() };
    let mut bytes = address.octets();
    bytes[NETWORK_BYTES..].fill(0);
    Ipv6Addr::from(bytes).into()
}

/// A share and who has its places. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    share: Share,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    next_number: u64,
    /// Oldest first.
    by_key: HashMap<Key, VecDeque<Holder>>,
}

/// A connection that has a place.
#[derive(Debug)]
struct Holder {
    number: u64,
    since: Instant,
    closed: CancellationToken,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    key: Key,
    number: u64,
    /// Cancelled when the place is given to another connection.
    pub(crate) closed: CancellationToken,
}

impl Place {
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.key, self.number);
    }
}

impl Taken {
    fn remove(&mut self, key: &Key, number: u64) {
        let Some(places) = self.by_key.get_mut(key) else { return };
        if let Some(at) = places.iter().position(|holder| holder.number == number) {
            places.remove(at);
            self.count -= 1;
        }
        if places.is_empty() {
            self.by_key.remove(key);
        }
    }

    fn count_of(&self, key: &Key) -> usize {
        self.by_key.get(key).map_or(0, VecDeque::len)
    }

    fn oldest(&self, key: &Key) -> Option<&Holder> {
        self.by_key.get(key).and_then(VecDeque::front)
    }

    fn close_oldest(&mut self, key: &Key) {
        let Some(holder) = self.oldest(key) else { return };
        holder.closed.cancel();
        let number = holder.number;
        self.remove(key, number);
    }

    /// The key with the most connections; among equals the one whose oldest connection is the oldest.
    fn largest(&self) -> Option<Key> {
        let age = |places: &VecDeque<Holder>| std::cmp::Reverse(places.front().map(|holder| holder.number));
        self.by_key.iter().max_by_key(|(_, places)| (places.len(), age(places))).map(|(key, _)| key.clone())
    }
}

impl Places {
    pub(crate) fn new(share: Share) -> Self {
        Self { share, taken: Arc::default() }
    }

    pub(crate) const fn lifetime(&self) -> Option<Duration> {
        self.share.lifetime
    }

    /// A place for one more connection; `None` if it is to be refused.
    pub(crate) fn take(&self, key: Key) -> Option<Place> {
        let mut taken = self.taken.lock();
        if self.share.places == 0 {
            return None;
        }
        while let Some(largest) = self.crowded(&taken, &key) {
            let is_fair = taken.count_of(&largest) > taken.count_of(&key) + 1;
            let may_close = match self.share.overflow {
                Overflow::Refuse => taken.count_of(&key) >= self.share.each,
                Overflow::CloseOldest => is_fair || taken.oldest(&largest)?.since.elapsed() >= self.share.min_age,
            };
            if !may_close {
                return None;
            }
            taken.close_oldest(&largest);
        }
        let number = taken.next_number;
        taken.next_number += 1;
        taken.count += 1;
        let closed = CancellationToken::new();
        taken.by_key.entry(key.clone()).or_default().push_back(Holder {
            number,
            since: Instant::now(),
            closed: closed.clone(),
        });
        drop(taken);
        Some(Place { taken: self.taken.clone(), key, number, closed })
    }

    /// The key that has to give up a connection before `key` can have one more.
    fn crowded(&self, taken: &Taken, key: &Key) -> Option<Key> {
        if taken.count_of(key) >= self.share.each {
            return Some(key.clone());
        }
        (taken.count >= self.share.places).then(|| taken.largest()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Key {
        Key::Source(super::source(text.parse().expect("an address")))
    }

    fn closing(places: usize, each: usize) -> Places {
        Places::new(Share::closing_oldest(places, each))
    }

    #[test]
    fn a_full_share_takes_from_who_has_most() {
        let places = closing(3, 3);
        let greedy: Vec<_> = (0..2).map(|_| places.take(source("10.0.0.1")).expect("room")).collect();
        let modest = places.take(source("10.0.0.2")).expect("room");
        let third = places.take(source("10.0.0.3")).expect("made room");
        assert_eq!(
            [&greedy[0], &greedy[1], &modest, &third].map(|place| place.closed.is_cancelled()),
            [true, false, false, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_connects_fast_closes_none_of_its_young_connections() {
        let share = Share { min_age: Duration::from_secs(1), ..closing(2, 2).share };
        let places = Places::new(share);
        let own: Vec<_> = (0..2).map(|_| places.take(source("10.0.0.1")).expect("room")).collect();
        assert!(places.take(source("10.0.0.1")).is_none());
        // Another source has its place at once, and takes no second one from the first before its time.
        let other = places.take(source("10.0.0.2")).expect("made room");
        assert!(own[0].closed.is_cancelled());
        assert!(places.take(source("10.0.0.2")).is_none());
        tokio::time::advance(share.min_age).await;
        let _next = places.take(source("10.0.0.1")).expect("made room");
        assert!(own[1].closed.is_cancelled() && !other.closed.is_cancelled());
    }

    #[test]
    fn a_key_beyond_its_limit_closes_its_own_oldest() {
        let places = Places::new(Share::members(8, 2));
        let own: Vec<_> = (0..3).map(|_| places.take(Key::Id("a".into())).expect("room")).collect();
        assert_eq!(own.iter().map(|place| place.closed.is_cancelled()).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn members_beyond_their_share_are_refused_until_a_place_is_given_back() {
        let places = Places::new(Share::members(2, 2));
        let first = places.take(Key::Id("a".into())).expect("room");
        let second = places.take(Key::Id("b".into())).expect("room");
        assert!(places.take(Key::Id("c".into())).is_none());
        assert!(!first.closed.is_cancelled() && !second.closed.is_cancelled());
        drop(first);
        places.take(Key::Id("c".into())).expect("room again");
    }

    #[test]
    fn what_was_closed_and_then_dropped_is_given_back_once() {
        let places = closing(1, 1);
        let first = places.take(source("10.0.0.1")).expect("room");
        let second = places.take(source("10.0.0.2")).expect("made room");
        drop(first);
        assert!(!second.closed.is_cancelled());
        let third = places.take(source("10.0.0.3")).expect("made room");
        assert!(second.closed.is_cancelled() && !third.closed.is_cancelled());
        assert_eq!(places.taken.lock().count, 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::7"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }

    #[test]
    fn nobody_has_a_place_in_a_closed_share() {
        assert!(Places::new(Share::CLOSED).take(source("10.0.0.1")).is_none());
    }
}
