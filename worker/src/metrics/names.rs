//! Every metric of a worker: name, labels and meaning. `docs/metrics.md` has the same table, and a test compares the two
//! with what a running worker shows.

use goat_observe::Metric;

pub const BUILD: Metric = Metric::gauge("goat_build_info", &["program", "version"], "1, for its labels");

pub const SESSION_UP: Metric =
    Metric::gauge("goat_worker_session_up", &[], "1 while this worker has a session with a leader, else 0");
pub const SESSIONS: Metric =
    Metric::counter("goat_worker_sessions_total", &[], "Sessions that leaders have welcomed this worker to");
pub const LEASE_REMAINING: Metric = Metric::gauge(
    "goat_worker_lease_remaining_seconds",
    &[],
    "Time until this worker's lease ends without another grant; 0 when it has ended",
);
pub const LEASE_EXPIRIES: Metric =
    Metric::counter("goat_worker_lease_expiries_total", &[], "Times that the lease has ended");
pub const UNACKED_REPORTS: Metric =
    Metric::gauge("goat_worker_unacked_reports", &[], "States of tasks that no leader has acknowledged yet");

pub const TASKS: Metric =
    Metric::gauge("goat_worker_tasks", &["state"], "Tasks known here; ended ones until managers forget them");
pub const STARTS: Metric = Metric::counter(
    "goat_worker_starts_total",
    &["outcome"],
    "Tasks brought up, with how that ended: started, failed, stopped before",
);
pub const START_SECONDS: Metric = Metric::histogram(
    "goat_worker_start_seconds",
    &[],
    "Time from a task's assignment until its program was started, waits and pulls included",
);
pub const PULLS: Metric =
    Metric::counter("goat_worker_pulls_total", &["outcome"], "Images fetched for tasks: done, failed");
pub const PULL_SECONDS: Metric = Metric::histogram("goat_worker_pull_seconds", &[], "Time to fetch an image");

pub const RUNTIME_UP: Metric =
    Metric::gauge("goat_worker_runtime_up", &["runtime"], "1 while a runtime answers, else 0");
pub const WATCHDOG_UP: Metric = Metric::gauge("goat_worker_watchdog_up", &[], "1 while a watchdog lives, else 0");
pub const CONDITION: Metric = Metric::gauge(
    "goat_worker_condition",
    &["condition"],
    "1 while this worker tells managers that something is wrong with it, else 0",
);
pub const DISK_FREE: Metric = Metric::gauge(
    "goat_worker_disk_free_bytes",
    &[],
    "Free disk of the runtime, as managers are told it: to the nearest 64 MiB",
);
pub const IMAGES: Metric = Metric::gauge("goat_worker_images", &[], "Images that are present here");

/// Those of the process are `goat_observe::process::ALL`.
pub const ALL: &[Metric] = &[
    BUILD,
    SESSION_UP,
    SESSIONS,
    LEASE_REMAINING,
    LEASE_EXPIRIES,
    UNACKED_REPORTS,
    TASKS,
    STARTS,
    START_SECONDS,
    PULLS,
    PULL_SECONDS,
    RUNTIME_UP,
    WATCHDOG_UP,
    CONDITION,
    DISK_FREE,
    IMAGES,
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
