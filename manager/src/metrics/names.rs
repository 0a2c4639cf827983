//! Every metric of a manager: name, labels and meaning. `docs/metrics.md` has the same table, and a test compares the two
//! with what a running manager shows.

use goat_observe::Metric;

pub const BUILD: Metric = Metric::gauge("goat_build_info", &["program", "version"], "1, for its labels");

pub const RAFT_TERM: Metric = Metric::gauge("goat_raft_term", &[], "Raft's term here");
pub const RAFT_IS_LEADER: Metric = Metric::gauge("goat_raft_is_leader", &[], "1 while this manager leads, else 0");
pub const RAFT_HAS_LEADER: Metric =
    Metric::gauge("goat_raft_has_leader", &[], "1 while a leader is known here, else 0");
pub const RAFT_CONTACT_AGE: Metric = Metric::gauge(
    "goat_raft_contact_age_seconds",
    &[],
    "Time since this manager heard from the leader, or as leader from a majority",
);
pub const RAFT_LAST_LOG_INDEX: Metric =
    Metric::gauge("goat_raft_last_log_index", &[], "Index of the last entry in this manager's log");
pub const RAFT_COMMITTED_INDEX: Metric =
    Metric::gauge("goat_raft_committed_index", &[], "Index up to which the group has committed, as known here");
pub const RAFT_APPLIED_INDEX: Metric =
    Metric::gauge("goat_raft_applied_index", &[], "Index up to which entries are applied here");
pub const RAFT_APPLY_LAG: Metric =
    Metric::gauge("goat_raft_apply_lag_entries", &[], "Entries that are committed and not applied here yet");
pub const RAFT_PEER_LAG: Metric = Metric::gauge(
    "goat_raft_peer_lag_entries",
    &["peer"],
    "Entries of the leader's log that another manager is not known to have; of the leader only",
);
pub const RAFT_PEER_ROUND_TRIP: Metric = Metric::gauge(
    "goat_raft_peer_round_trip_seconds",
    &["peer"],
    "A heartbeat to another manager and its answer, on average lately; of the leader only",
);
pub const RAFT_FSYNC: Metric = Metric::gauge(
    "goat_raft_fsync_seconds",
    &[],
    "Time that a write of this manager's log takes to become durable, on average lately",
);
pub const RAFT_MEMBERS: Metric =
    Metric::gauge("goat_raft_members", &["role"], "Managers in the group: voters, learners");
pub const RAFT_MISSED_PEERS: Metric =
    Metric::gauge("goat_raft_missed_peers", &[], "Managers that did not answer the last heartbeat or vote from here");
pub const RAFT_ELECTIONS: Metric =
    Metric::counter("goat_raft_elections_total", &[], "Terms that have begun since this manager started");
pub const RAFT_LEADER_CHANGES: Metric = Metric::counter(
    "goat_raft_leader_changes_total",
    &[],
    "Leaders that this manager has followed or been, one after the other",
);
pub const RAFT_PROPOSALS: Metric = Metric::counter(
    "goat_raft_proposals_total",
    &["outcome"],
    "Commands proposed at this manager as leader, by what became of them",
);
pub const RAFT_COMMIT_SECONDS: Metric = Metric::histogram(
    "goat_raft_commit_seconds",
    &[],
    "Time from a command's proposal at the leader until it is applied there",
);
pub const RAFT_LOG_ENTRIES: Metric =
    Metric::gauge("goat_raft_log_entries", &[], "Entries in the log that no snapshot has replaced");
pub const RAFT_SNAPSHOT_INDEX: Metric =
    Metric::gauge("goat_raft_snapshot_index", &[], "Index up to which the newest snapshot goes; 0 for none");
pub const RAFT_SNAPSHOT_BYTES: Metric =
    Metric::gauge("goat_raft_snapshot_bytes", &[], "Size of the newest snapshot; 0 for none");

pub const STORE_FILES: Metric =
    Metric::gauge("goat_store_files_bytes", &["family"], "RocksDB's table files: of the log, meta data, rows");
pub const STORE_LIVE: Metric =
    Metric::gauge("goat_store_live_bytes", &["family"], "What of them is not overwritten or deleted, roughly");
pub const STORE_MEMTABLES: Metric = Metric::gauge("goat_store_memtables_bytes", &["family"], "RocksDB's write buffers");
pub const STORE_PENDING_COMPACTION: Metric = Metric::gauge(
    "goat_store_pending_compaction_bytes",
    &["family"],
    "What RocksDB has to rewrite before its files are in order, roughly",
);
pub const STORE_BLOCK_CACHE: Metric =
    Metric::gauge("goat_store_block_cache_bytes", &[], "RocksDB's cache of table blocks");
pub const STORE_COMPACTIONS: Metric =
    Metric::gauge("goat_store_running_compactions", &[], "Compactions that RocksDB is at");
pub const STORE_ERRORS: Metric =
    Metric::counter("goat_store_background_errors_total", &[], "Errors of RocksDB's flushes and compactions");
pub const STORE_STOPPED: Metric =
    Metric::gauge("goat_store_write_stopped", &[], "1 while RocksDB takes no writes until it has compacted, else 0");

pub const PLANS: Metric =
    Metric::counter("goat_planner_plans_total", &[], "Plans made here as leader, empty ones included");
pub const PLAN_STEPS: Metric =
    Metric::counter("goat_planner_steps_total", &["kind"], "Steps of plans made here as leader");
pub const PLAN_SECONDS: Metric = Metric::histogram("goat_planner_plan_seconds", &[], "Time to make a plan");
pub const PLANNER_RESTARTS: Metric = Metric::counter(
    "goat_planner_restarts_total",
    &[],
    "Times that the planner had to look at everything again, since it fell behind or a plan was not accepted",
);
pub const PENDING: Metric = Metric::gauge(
    "goat_scheduler_pending_tasks",
    &["reason"],
    "Tasks without a node: the filter that refuses most nodes, or due, backoff, no-node, other",
);

pub const SESSIONS: Metric =
    Metric::gauge("goat_dispatcher_sessions", &[], "Workers that have a session with this manager as leader");
pub const SESSIONS_BEGUN: Metric =
    Metric::counter("goat_dispatcher_sessions_begun_total", &[], "Sessions that workers have begun with this manager");
pub const GRANTS: Metric =
    Metric::counter("goat_dispatcher_grants_total", &[], "Leases renewed by this manager as leader");
pub const HEARTBEATS_DROPPED: Metric = Metric::counter(
    "goat_dispatcher_heartbeats_dropped_total",
    &[],
    "Heartbeats of workers that a newer one of the same worker replaced before their quorum check",
);
pub const REPORTS: Metric =
    Metric::counter("goat_dispatcher_reports_total", &[], "States of tasks that workers have reported to this manager");
pub const SILENCES: Metric = Metric::counter(
    "goat_dispatcher_silences_total",
    &["state"],
    "Workers that this manager as leader has called disconnected or down",
);

pub const SERVICES: Metric = Metric::gauge("goat_services", &[], "Services in the state applied here");
pub const TASKS: Metric = Metric::gauge(
    "goat_tasks",
    &["state"],
    "Tasks in the state applied here; ended ones as far as they are remembered",
);
pub const NODES: Metric = Metric::gauge("goat_nodes", &["state"], "Workers in the state applied here");
pub const NODES_DRAINING: Metric =
    Metric::gauge("goat_nodes_draining", &[], "Workers that are to run nothing, in the state applied here");

pub const RPCS: Metric = Metric::counter(
    "goat_rpc_requests_total",
    &["method", "code"],
    "Calls that this manager has answered; streams, once they were open",
);
pub const RPC_SECONDS: Metric =
    Metric::histogram("goat_rpc_seconds", &["method"], "Time until a call was answered or its stream was open");

/// Those of the process are `goat_observe::process::ALL`.
pub const ALL: &[Metric] = &[
    BUILD,
    RAFT_TERM,
    RAFT_IS_LEADER,
    RAFT_HAS_LEADER,
    RAFT_CONTACT_AGE,
    RAFT_LAST_LOG_INDEX,
    RAFT_COMMITTED_INDEX,
    RAFT_APPLIED_INDEX,
    RAFT_APPLY_LAG,
    RAFT_PEER_LAG,
    RAFT_PEER_ROUND_TRIP,
    RAFT_FSYNC,
    RAFT_MEMBERS,
    RAFT_MISSED_PEERS,
    RAFT_ELECTIONS,
    RAFT_LEADER_CHANGES,
    RAFT_PROPOSALS,
    RAFT_COMMIT_SECONDS,
    RAFT_LOG_ENTRIES,
    RAFT_SNAPSHOT_INDEX,
    RAFT_SNAPSHOT_BYTES,
    STORE_FILES,
    STORE_LIVE,
    STORE_MEMTABLES,
    STORE_PENDING_COMPACTION,
    STORE_BLOCK_CACHE,
    STORE_COMPACTIONS,
    STORE_ERRORS,
    STORE_STOPPED,
    PLANS,
    PLAN_STEPS,
    PLAN_SECONDS,
    PLANNER_RESTARTS,
    PENDING,
    SESSIONS,
    SESSIONS_BEGUN,
    GRANTS,
    HEARTBEATS_DROPPED,
    REPORTS,
    SILENCES,
    SERVICES,
    TASKS,
    NODES,
    NODES_DRAINING,
    RPCS,
    RPC_SECONDS,
];

#[cfg(test)]
mod tests {
    use goat_observe::metric::table;

    #[test]
    fn the_page_in_docs_has_every_metric_as_it_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).expect("it is in the tree");
        for metrics in [super::ALL, goat_observe::process::ALL] {
            let table = table(metrics);
            assert!(page.contains(&table), "docs/metrics.md has to have\n{table}");
        }
    }
}
