//! How many entries go into one append: as many as the link transmits in a fraction of a heartbeat's deadline. Pure.
//!
//! A heartbeat waits behind the bytes that are in a link's queue already, whatever connection they belong to. On 1 Mbit/s the
//! largest batch would take eight seconds, in which no heartbeat gets through.

use std::time::Duration;

use goat_raft_store::TypeConfig;
use openraft::EntryPayload;
use openraft::alias::EntryOf;
use openraft::entry::RaftEntry as _;
use openraft::raft::AppendEntriesRequest;

type Entry = EntryOf<TypeConfig>;
type Request = AppendEntriesRequest<TypeConfig>;

/// At least one entry always goes, whatever its size.
pub(super) const MIN_BYTES: u64 = 16 << 10;
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// An entry besides its command.
const ENTRY_BYTES: u64 = 64;
/// A batch that takes longer to transmit is halved, one that takes less than half of it is doubled.
const TARGET: Duration = Duration::from_millis(200);

/// The size of the next batch to one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchSize {
    bytes: u64,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self { bytes: 4 * MIN_BYTES }
    }
}

impl BatchSize {
    pub(super) const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Adapts to a batch of `sent` bytes that took `transmission` on the link.
    pub(super) fn record_success(&mut self, sent: u64, transmission: Duration) {
        if transmission > TARGET {
            self.bytes = (self.bytes / 2).max(MIN_BYTES);
        } else if transmission < TARGET / 2 && sent * 2 > self.bytes {
            self.bytes = (self.bytes * 2).min(MAX_BYTES);
        }
    }

    /// Adapts to a batch that did not get through in time.
    pub(super) fn record_failure(&mut self) {
        self.bytes = MIN_BYTES;
    }
}

/// The size of an entry on the wire, about.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    let command = match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len() as u64,
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    ENTRY_BYTES + command
}

/// The size of a request's entries on the wire, about.
pub(super) fn request_bytes(request: &Request) -> u64 {
    request.entries.iter().map(entry_bytes).sum()
}

/// Cuts a request after as many entries as fit into `limit` bytes, and at least one. The second half is `None` if all fit.
pub(super) fn split(mut request: Request, limit: u64) -> (Request, Option<Request>) {
    let mut bytes = 0;
    let fitting = request.entries.iter().take_while(|entry| {
        bytes += entry_bytes(entry);
        bytes <= limit
    });
    let count = fitting.count().max(1);
    if count >= request.entries.len() {
        return (request, None);
    }
    let entries = request.entries.split_off(count);
    let last = request.entries.last().map(|entry| entry.log_id());
    let rest =
        AppendEntriesRequest { vote: request.vote, prev_log_id: last, entries, leader_commit: request.leader_commit };
    // The follower commits no further than it has got.
    request.leader_commit = request.leader_commit.min(last);
    (request, Some(rest))
}

#[cfg(test)]
mod tests {
    use goat_raft_store::Payload;
    use openraft::alias::{LogIdOf, VoteOf};
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId as _;

    use super::*;

    fn id(index: u64) -> LogIdOf<TypeConfig> {
        LogIdOf::<TypeConfig>::new(LeaderId::new(1, 1).to_committed(), index)
    }

    fn request(sizes: &[usize]) -> Request {
        let entry = |(at, size): (usize, &usize)| {
            let command = EntryPayload::Normal(Payload(vec![0; *size].into()));
            Entry::new(id(11 + at as u64), command)
        };
        Request {
            vote: VoteOf::<TypeConfig>::new_committed(1, 1),
            prev_log_id: Some(id(10)),
            leader_commit: Some(id(13)),
            entries: sizes.iter().enumerate().map(entry).collect(),
        }
    }

    fn cut(request: Request, limit: u64) -> Vec<(u64, usize, u64)> {
        let index = |id: Option<LogIdOf<TypeConfig>>| id.map_or(0, |id| id.index());
        let mut parts = Vec::new();
        let mut rest = Some(request);
        while let Some(request) = rest {
            let (part, after) = split(request, limit);
            parts.push((index(part.prev_log_id), part.entries.len(), index(part.leader_commit)));
            rest = after;
        }
        parts
    }

    #[test]
    fn a_request_is_cut_where_the_limit_is_and_each_part_follows_the_one_before() {
        let limit = 2 * (100 + ENTRY_BYTES);
        assert_eq!(cut(request(&[100; 5]), limit), [(10, 2, 12), (12, 2, 13), (14, 1, 13)]);
        assert_eq!(cut(request(&[100; 2]), limit), [(10, 2, 13)]);
        assert_eq!(cut(request(&[]), limit), [(10, 0, 13)]);
    }

    #[test]
    fn an_entry_beyond_the_limit_goes_by_itself() {
        assert_eq!(cut(request(&[5_000, 5_000, 10]), 1_000), [(10, 1, 11), (11, 1, 12), (12, 1, 13)]);
    }

    #[test]
    fn a_thin_link_gets_small_batches_and_a_fast_one_large_ones() {
        let mut size = BatchSize::default();
        for _ in 0..10 {
            let bytes = size.bytes();
            size.record_success(bytes, Duration::from_millis(bytes * 1_000 / 125_000));
        }
        assert!((MIN_BYTES..=2 * MIN_BYTES).contains(&size.bytes()), "{size:?}");
        for _ in 0..10 {
            size.record_success(size.bytes(), Duration::from_millis(1));
        }
        assert_eq!(size.bytes(), MAX_BYTES);
        size.record_failure();
        assert_eq!(size.bytes(), MIN_BYTES);
    }

    #[test]
    fn a_small_append_says_nothing_about_larger_ones() {
        let mut size = BatchSize::default();
        for _ in 0..10 {
            size.record_success(200, Duration::from_micros(300));
        }
        assert_eq!(size.bytes(), BatchSize::default().bytes());
    }
}
