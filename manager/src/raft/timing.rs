//! Raft's times and sizes, each with the figure that it follows from. The managers work with the default settings at any
//! round trip up to 300 ms and any fsync up to 200 ms: slower, never stopped.
//!
//! openraft derives the deadlines of its calls from its heartbeat interval and its election timeouts. Here the deadlines are
//! chosen first, and openraft gets intervals that yield them. The actual heartbeat interval and the election timer are ours
//! ([`super::heartbeat`], [`super::election`]).

use std::time::Duration;

use openraft::{Config as RaftConfig, SnapshotPolicy};

use crate::config::Config;

/// Longest time until a heartbeat must be answered. A heartbeat takes one round trip (up to 300 ms), waits for no fsync, and
/// may lose two TCP segments in a row (retransmissions after about 550 and 1,100 ms at that round trip).
pub(super) const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(2_000);

/// Time that an append may take besides the transmission of its bytes: its follower may have to finish one fsync and do
/// another one (200 ms each), on a link that loses segments. A follower that does not answer heartbeats is given up earlier.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Slowest link that a command of the largest size (1 MiB) must get through, in bytes per second: a tenth of 1 Mbit/s,
/// since other traffic shares the link.
const MIN_BYTES_PER_SECOND: u64 = 12_500;

/// Time without an answer to any heartbeat after which calls in progress to a peer end: their connection may be dead.
pub(super) const PEER_LOST_AFTER: Duration = Duration::from_millis(4_000);

/// A part of a snapshot has to be taken by the peer within this time: 256 KiB at a tenth of 1 Mbit/s take 21 s.
pub(super) const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest silence of a leader before a follower stands for election, however irregular its heartbeats were.
pub(super) const MAX_SILENCE_MS: u64 = 3_000;

/// How soon a leader's silence leads to an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ElectionTiming {
    /// Time after the leader's last message during which a manager votes for nobody else and does not stand itself (ms).
    pub lease_ms: u64,
    /// Managers stand at a random time within this long after the lease (ms), so that they rarely stand together.
    pub spread_ms: u64,
}

impl ElectionTiming {
    /// The silence before an election is `election_timeout_max_ms`, and then a random time from the minimum to the maximum.
    pub(super) const fn new(config: &Config) -> Self {
        let (min_ms, max_ms) = (config.election_timeout_min_ms, config.election_timeout_max_ms);
        Self { lease_ms: max_ms + min_ms, spread_ms: max_ms - min_ms }
    }
}

/// openraft's own configuration. It is not passed through `Config::validate`, whose relations hold for deadlines that are
/// derived from intervals.
pub(super) fn raft_config(config: &Config) -> RaftConfig {
    let election = ElectionTiming::new(config);
    RaftConfig {
        cluster_name: "goat".into(),
        // The deadline of a heartbeat. When heartbeats are sent: `super::heartbeat`.
        heartbeat_interval: HEARTBEAT_TIMEOUT.as_millis() as u64,
        enable_heartbeat: false,
        // The leader's lease, during which no vote is given to others.
        election_timeout_max: election.lease_ms,
        // The deadline of a vote. When votes are asked for: `super::election`.
        election_timeout_min: election.lease_ms - 1,
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A restarted leader asks for votes like everybody else.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        max_payload_entries: 512,
        api_batch_capacity: 512,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        // A follower that was away for less than this gets the log's tail instead of a whole snapshot.
        max_in_snapshot_log_to_keep: config.snapshot_entries,
        replication_lag_threshold: config.snapshot_entries * 2,
        install_snapshot_timeout: SNAPSHOT_CHUNK_TIMEOUT.as_millis() as u64,
        ..RaftConfig::default()
    }
}

/// How long an append of `bytes` may take.
pub(super) fn append_timeout(bytes: u64) -> Duration {
    APPEND_TIMEOUT + Duration::from_millis(bytes * 1_000 / MIN_BYTES_PER_SECOND)
}
