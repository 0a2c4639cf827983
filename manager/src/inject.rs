//! Faults that tests put into a running manager, in builds with debug assertions only: the environment variable
//! `GOAT_MANAGER_INJECT` holds one, as `panic:DUTY`, `end:DUTY`, `stall:runtime` or `stall:locks`.

use std::future::Future;

use crate::machine::View;

#[cfg(debug_assertions)]
const VARIABLE: &str = "GOAT_MANAGER_INJECT";

/// Whether the fault was asked for.
#[cfg(debug_assertions)]
fn is_wanted(kind: &str, target: &str) -> bool {
    std::env::var(VARIABLE).is_ok_and(|fault| fault.split_once(':') == Some((kind, target)))
}

#[cfg(not(debug_assertions))]
const fn is_wanted(_kind: &str, _target: &str) -> bool {
    false
}

/// The work of a duty, or a panic, or an early end in its place.
pub(crate) async fn into_duty(name: &'static str, work: impl Future<Output = ()>) {
    assert!(!is_wanted("panic", name), "a test asked for it");
    if !is_wanted("end", name) {
        work.await;
    }
}

/// Blocks all threads of the runtime, or keeps the state's lock for good.
pub(crate) fn stall(view: &View) {
    if is_wanted("stall", "locks") {
        let view = view.clone();
        std::thread::spawn(move || view.write_locked(loop_for_good));
    }
    if is_wanted("stall", "runtime") {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let tasks = crate::taskset::TaskSet::new("stall");
        for _ in 0..threads {
            tasks.spawn("stall", async { loop_for_good() });
        }
    }
}

fn loop_for_good() {
    loop {
        std::thread::park();
    }
}
