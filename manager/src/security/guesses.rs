//! Wrong join secrets, counted by source address: guessing is slow, and costs the cluster no quorum read each time.
//!
//! A follower may not know yet of a secret that has just replaced another. So the first wrong secrets of a source are asked
//! about as before, and only those beyond the limit are refused at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use goat_tls::Caller;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

/// Wrong secrets of one source address that are looked into at once.
const BURST: u32 = 8;
/// Afterwards one in this time.
const REFILL: Duration = Duration::from_secs(10);
/// Source addresses that are remembered. The one whose last wrong secret is the oldest is forgotten first.
const MAX_SOURCES: usize = 1_024;
/// Wrong secrets are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Wrong secrets by source. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Guesses(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    sources: HashMap<IpAddr, Source>,
    logged: Option<Instant>,
    unlogged: u64,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    left: u32,
    since: Instant,
}

impl Guesses {
    /// Counts a wrong secret of this caller.
    ///
    /// # Errors
    /// If the caller's source address has had too many of them; worth another try later.
    pub fn count(&self, caller: Option<&Caller>, role: &str) -> Result<(), Status> {
        let address = caller.and_then(|caller| caller.address);
        let source = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| goat_tls::source(address.ip()));
        let mut counts = self.0.lock();
        counts.log(source, role);
        if counts.take(source) {
            return Ok(());
        }
        Err(Status::unavailable(format!(
            "the join token does not invite a {role}, and {source} has shown more than {BURST} such tokens: one in {} s is looked \
             into; `goatctl cluster join-token {role}` prints the present one",
            REFILL.as_secs()
        )))
    }
}

impl Counts {
    fn take(&mut self, address: IpAddr) -> bool {
        let now = Instant::now();
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&address) {
            let oldest = self.sources.iter().min_by_key(|(_, source)| source.since).map(|(address, _)| *address);
            oldest.map(|oldest| self.sources.remove(&oldest));
        }
        let source = self.sources.entry(address).or_insert(Source { left: BURST, since: now });
        let refilled = now.duration_since(source.since).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            source.left = source.left.saturating_add(u32::try_from(refilled).unwrap_or(BURST)).min(BURST);
            source.since = now;
        }
        let is_left = source.left > 0;
        source.left = source.left.saturating_sub(1);
        is_left
    }

    fn log(&mut self, address: IpAddr, role: &str) {
        self.unlogged += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            warn!(%address, role, count = self.unlogged, "wrong join tokens were shown");
            (self.logged, self.unlogged) = (Some(Instant::now()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(address: &str) -> Caller {
        let address = Some(format!("{address}:1").parse().expect("an address"));
        Caller { subject: None, outdated: None, is_plaintext: false, address }
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_is_slow_and_slows_nobody_else() {
        let guesses = Guesses::default();
        let (guesser, other) = (caller("10.0.0.1"), caller("10.0.0.2"));
        for _ in 0..BURST {
            guesses.count(Some(&guesser), "worker").expect("looked into");
        }
        let refused = guesses.count(Some(&guesser), "worker").expect_err("too many");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        guesses.count(Some(&other), "worker").expect("it has shown none");
        tokio::time::advance(REFILL).await;
        guesses.count(Some(&guesser), "worker").expect("one more");
        guesses.count(Some(&guesser), "worker").expect_err("and no other");
    }

    #[test]
    fn sources_are_forgotten_when_there_are_too_many() {
        let mut counts = Counts::default();
        for number in 0..2 * MAX_SOURCES as u32 {
            assert!(counts.take(IpAddr::V4(Ipv4Addr::from(number))));
        }
        assert_eq!(counts.sources.len(), MAX_SOURCES);
    }
}
