//! Which peers answer Raft, and how fast. Each change is logged once, and not each call.
//!
//! Only heartbeats and votes tell whether a peer is reached: entries may take as long as a slow disk or a thin link needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::RPCError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;
use tracing::{info, warn};

use super::timing::PEER_LOST_AFTER;
use crate::clock;
use goat_raft_store::TypeConfig;

/// Round trips are compared with the shortest one in this time: a longer one includes waiting behind other traffic.
const ROUND_TRIP_WINDOW_MS: u64 = 30_000;

/// What is known of the links to all peers. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reach(Arc<Mutex<BTreeMap<u64, Peer>>>);

#[derive(Debug, Default)]
struct Peer {
    answered_at_ms: Option<u64>,
    failing_since_ms: Option<u64>,
    /// Why it refuses to talk to this manager.
    refusal: Option<String>,
    round_trip_us: Average,
    shortest: Shortest,
    /// Wakes calls in progress when the peer is lost.
    lost: Arc<Notify>,
}

/// An average in which each new value weighs an eighth.
#[derive(Debug, Default, Clone, Copy)]
struct Average(Option<u64>);

impl Average {
    fn add(&mut self, value: u64) {
        self.0 = Some(self.0.map_or(value, |average| (average * 7 + value) / 8));
    }
}

/// The least value of the running window and of the one before.
#[derive(Debug, Default)]
struct Shortest {
    since_ms: u64,
    now_us: Option<u64>,
    before_us: Option<u64>,
}

impl Shortest {
    fn add(&mut self, now_ms: u64, value_us: u64) {
        if now_ms.saturating_sub(self.since_ms) > ROUND_TRIP_WINDOW_MS {
            self.before_us = self.now_us.take();
            self.since_ms = now_ms;
        }
        self.now_us = Some(self.now_us.map_or(value_us, |least| least.min(value_us)));
    }

    fn get(&self) -> Option<u64> {
        self.now_us.into_iter().chain(self.before_us).min()
    }
}

/// A link as it was lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkFigures {
    pub is_reached: bool,
    /// Since the last answer; `None` if there was none yet.
    pub silent_ms: Option<u64>,
    /// Of a heartbeat, on average; 0 if none was answered yet.
    pub round_trip_us: u64,
}

impl Reach {
    /// Whether Raft's last heartbeat or vote to the peer was not answered.
    pub fn is_missed(&self, peer: u64) -> bool {
        self.0.lock().get(&peer).is_some_and(|peer| peer.failing_since_ms.is_some())
    }

    /// The figures of the link to a peer.
    pub fn figures(&self, peer: u64) -> LinkFigures {
        let peers = self.0.lock();
        let Some(peer) = peers.get(&peer) else { return LinkFigures::default() };
        LinkFigures {
            is_reached: peer.failing_since_ms.is_none() && peer.answered_at_ms.is_some(),
            silent_ms: peer.answered_at_ms.map(|at_ms| clock::boot_ms().saturating_sub(at_ms)),
            round_trip_us: peer.round_trip_us.0.unwrap_or(0),
        }
    }

    /// The shortest round trip to a peer lately.
    pub(super) fn shortest_round_trip(&self, peer: u64) -> Duration {
        let peers = self.0.lock();
        Duration::from_micros(peers.get(&peer).and_then(|peer| peer.shortest.get()).unwrap_or(0))
    }

    /// Records a peer that answers, and refuses what this manager says: its operator has to know.
    pub(super) fn record_refusal(&self, peer: u64, address: &str, status: &Status) {
        let why = status.message();
        if self.0.lock().entry(peer).or_default().refusal.replace(why.to_owned()).as_deref() != Some(why) {
            warn!(manager_id = peer, address, error = why, "a manager refuses to talk to this one");
        }
    }

    /// Records an answer to a heartbeat or a vote. `round_trip`: without the time that the peer took to handle it.
    pub(super) fn record_answer(&self, peer: u64, address: &str, round_trip: Duration) {
        let now_ms = clock::boot_ms();
        let was_failing = {
            let mut peers = self.0.lock();
            let peer = peers.entry(peer).or_default();
            let round_trip_us = round_trip.as_micros() as u64;
            peer.answered_at_ms = Some(now_ms);
            peer.refusal = None;
            peer.round_trip_us.add(round_trip_us);
            peer.shortest.add(now_ms, round_trip_us);
            peer.failing_since_ms.take().is_some()
        };
        if was_failing {
            info!(manager_id = peer, address, "a manager is reached again");
        }
    }

    /// Records that a heartbeat or a vote was not answered. After a while this ends the calls that [`Reach::lost`] guards.
    pub(super) fn record_failure(&self, peer: u64, address: &str, error: &RPCError<TypeConfig>) {
        let now_ms = clock::boot_ms();
        let is_news = {
            let mut peers = self.0.lock();
            let peer = peers.entry(peer).or_default();
            let is_news = peer.failing_since_ms.is_none();
            let since_ms = *peer.failing_since_ms.get_or_insert(now_ms);
            let silent_since_ms = peer.answered_at_ms.unwrap_or(since_ms).min(since_ms);
            if now_ms.saturating_sub(silent_since_ms) >= PEER_LOST_AFTER.as_millis() as u64 {
                peer.lost.notify_waiters();
            }
            is_news
        };
        if is_news {
            warn!(manager_id = peer, address, %error, "a manager cannot be reached");
        }
    }

    /// Returns when the peer has not answered for [`PEER_LOST_AFTER`].
    pub(super) async fn lost(&self, peer: u64) {
        let lost = self.0.lock().entry(peer).or_default().lost.clone();
        lost.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use openraft::errors::Unreachable;

    use super::*;

    fn unreachable() -> RPCError<TypeConfig> {
        Unreachable::new(&std::io::Error::other("refused")).into()
    }

    #[test]
    fn a_peer_is_missed_from_its_first_failure_to_its_next_answer() {
        let reach = Reach::default();
        assert!(!reach.is_missed(2));
        reach.record_failure(2, "b:1", &unreachable());
        assert!(reach.is_missed(2) && !reach.is_missed(3));
        reach.record_answer(2, "b:1", Duration::from_millis(3));
        assert!(!reach.is_missed(2));
        let figures = reach.figures(2);
        assert!(figures.is_reached);
        assert_eq!(figures.round_trip_us, 3_000);
    }

    #[test]
    fn one_failure_does_not_end_the_calls_in_progress() {
        let reach = Reach::default();
        reach.record_answer(2, "b:1", Duration::from_millis(3));
        let mut lost = Box::pin(reach.lost(2));
        assert!(lost.as_mut().now_or_never().is_none());
        reach.record_failure(2, "b:1", &unreachable());
        assert!(lost.as_mut().now_or_never().is_none());
        reach.0.lock().get_mut(&2).expect("it is known").answered_at_ms = Some(0);
        reach.record_failure(2, "b:1", &unreachable());
        assert!(clock::boot_ms() < 5_000 || lost.now_or_never().is_some());
    }

    #[test]
    fn the_shortest_round_trip_is_that_of_the_last_two_windows() {
        let mut shortest = Shortest::default();
        shortest.add(1_000, 300);
        shortest.add(2_000, 900);
        assert_eq!(shortest.get(), Some(300));
        shortest.add(40_000, 800);
        assert_eq!(shortest.get(), Some(300));
        shortest.add(80_000, 850);
        assert_eq!(shortest.get(), Some(800));
    }
}
