//! Places for a listener's connections. Each class of callers has a share of its own, so that strangers take no place
//! from members, nor clients from managers. Within a share nobody keeps the others out:
//!
//! | a new connection finds | and then |
//! | --- | --- |
//! | its key (an identity, or a source address) at [`Share::each`] | the oldest connection of that key is closed |
//! | the share full, [`Overflow::CloseOldest`] | the oldest connection of the key with the most connections is closed |
//! | the share full, [`Overflow::Refuse`] | the new connection is refused |

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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
    /// A connection is closed after this time. `None`: it may last.
    pub lifetime: Option<Duration>,
}

impl Share {
    /// For callers that have no business here.
    pub const CLOSED: Self = Self::members(0, 0);

    /// For members: connections last, and a connection beyond the share is refused.
    pub const fn members(places: usize, each: usize) -> Self {
        Self { places, each, overflow: Overflow::Refuse, lifetime: None }
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
    by_key: HashMap<Key, VecDeque<(u64, CancellationToken)>>,
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

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.key, self.number);
    }
}

impl Taken {
    fn remove(&mut self, key: &Key, number: u64) {
        let Some(places) = self.by_key.get_mut(key) else { return };
        if let Some(at) = places.iter().position(|(known, _)| *known == number) {
            places.remove(at);
            self.count -= 1;
        }
        if places.is_empty() {
            self.by_key.remove(key);
        }
    }

    fn close_oldest(&mut self, key: &Key) {
        let Some((number, closed)) = self.by_key.get(key).and_then(|places| places.front()).cloned() else { return };
        closed.cancel();
        self.remove(key, number);
    }

    /// The key with the most connections; among equals the one whose oldest connection is the oldest.
    fn largest(&self) -> Option<Key> {
        let age = |places: &VecDeque<(u64, _)>| std::cmp::Reverse(places.front().map(|(number, _)| *number));
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
        while taken.by_key.get(&key).is_some_and(|places| places.len() >= self.share.each) {
            taken.close_oldest(&key);
        }
        while taken.count >= self.share.places {
            match (self.share.overflow, taken.largest()) {
                (Overflow::CloseOldest, Some(largest)) => taken.close_oldest(&largest),
                _ => return None,
            }
        }
        let number = taken.next_number;
        taken.next_number += 1;
        taken.count += 1;
        let closed = CancellationToken::new();
        taken.by_key.entry(key.clone()).or_default().push_back((number, closed.clone()));
        drop(taken);
        Some(Place { taken: self.taken.clone(), key, number, closed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Key {
        Key::Source(super::source(text.parse().expect("an address")))
    }

    fn closing(places: usize, each: usize) -> Places {
        Places::new(Share { places, each, overflow: Overflow::CloseOldest, lifetime: None })
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
