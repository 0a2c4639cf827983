//! Waits and leases as arithmetic.

use goat_core::lease::{LeaderLeases, LeasePolicy, WorkerLease};
use goat_core::model::{Cause, NodeId, NodeState, RestartCondition, RestartPolicy, Task, TaskState, reason};
use goat_core::orchestrator::{Decision, decide};
use proptest::prelude::*;

use crate::support::{Leader, spec};

/// A task that ran for `ran_ms` and ended so, after `failures` restarts in a row.
fn ended(state: TaskState, failures: u32, ran_ms: u64) -> Task {
    let mut leader = Leader::new();
    leader.nodes(1);
    let service = leader.service(1, spec("web", 1));
    leader.work();
    let mut task = leader.newest(service, 1).clone();
    let started_ms = task.started_at_ms.expect("it runs");
    (task.state, task.failures, task.finished_at_ms) = (state, failures, Some(started_ms + ran_ms));
    task
}

#[test]
fn the_table_of_waits() {
    let policy = RestartPolicy { delay_ms: 1_000, max_delay_ms: 60_000, ..RestartPolicy::default() };
    let table = [
        (0, 0),
        (1, 1_000),
        (2, 2_000),
        (3, 4_000),
        (4, 8_000),
        (5, 16_000),
        (6, 32_000),
        (7, 60_000),
        (40, 60_000),
        (u32::MAX, 60_000),
    ];
    let failed = ended(TaskState::Failed, 0, 10);
    for (before, middle_ms) in table {
        let task = Task { failures: before, ..failed.clone() };
        for random in 0..2_000 {
            let Decision::Again { wait_ms, failures, cause } = decide(&policy, &task, random) else {
                panic!("it goes on")
            };
            assert_eq!((failures, cause), (before.saturating_add(1), Cause::Exit));
            assert!(wait_ms.abs_diff(middle_ms) <= middle_ms / 10, "{before}: {wait_ms}");
        }
    }
}

#[test]
fn what_follows_which_end_under_which_condition() {
    use RestartCondition::{Always, No, OnFailure, UnlessStopped};
    let table = [
        (TaskState::Complete, [(No, false), (OnFailure, false), (Always, true), (UnlessStopped, true)]),
        (TaskState::Failed, [(No, false), (OnFailure, true), (Always, true), (UnlessStopped, true)]),
        (TaskState::Rejected, [(No, true), (OnFailure, true), (Always, true), (UnlessStopped, true)]),
        (TaskState::Lost, [(No, true), (OnFailure, true), (Always, true), (UnlessStopped, true)]),
        (TaskState::Stopped, [(No, true), (OnFailure, true), (Always, true), (UnlessStopped, true)]),
    ];
    for (state, conditions) in table {
        let task = ended(state, 0, 10);
        for (condition, goes_on) in conditions {
            let policy = RestartPolicy { condition, ..RestartPolicy::default() };
            assert_eq!(decide(&policy, &task, 0) != Decision::Rest, goes_on, "{state:?} under {condition:?}");
        }
    }
}

#[test]
fn what_the_cluster_did_does_not_count_against_a_task() {
    let policy =
        RestartPolicy { max_attempts: Some(1), condition: RestartCondition::OnFailure, ..RestartPolicy::default() };
    let again = |failures, cause| Decision::Again { wait_ms: 0, failures, cause };
    assert_eq!(decide(&policy, &ended(TaskState::Lost, 1, 10), 0), again(1, Cause::NodeLost));
    assert_eq!(decide(&policy, &ended(TaskState::Stopped, 1, 10), 0), again(1, Cause::NodeLost));
    assert_eq!(decide(&policy, &ended(TaskState::Failed, 0, 10), 0), again(1, Cause::Exit));
    assert_eq!(decide(&policy, &ended(TaskState::Failed, 1, 10), 0), Decision::Rest);
}

#[test]
fn a_task_that_failed_its_health_check_is_restarted_as_one_that_exited_and_says_so() {
    let policy =
        RestartPolicy { max_attempts: Some(1), condition: RestartCondition::OnFailure, ..RestartPolicy::default() };
    for (text, cause) in
        [(reason::NEVER_READY, Cause::Health), (reason::UNHEALTHY, Cause::Health), ("exit", Cause::Exit)]
    {
        let task = Task { reason: Some(text.into()), ..ended(TaskState::Failed, 0, 10) };
        assert_eq!(decide(&policy, &task, 0), Decision::Again { wait_ms: 0, failures: 1, cause }, "{text}");
        assert_eq!(decide(&policy, &Task { failures: 1, ..task }, 0), Decision::Rest, "{text}");
    }
}

#[test]
fn the_default_lease_makes_the_leader_wait_as_long_as_the_formula_says() {
    let policy = LeasePolicy::default();
    // 1.001 * (2500 / 0.999 + 1500) = 4006.5, and the worker's share is rounded up before.
    assert_eq!(policy.manager_wait_ms(), 4_008);
    assert_eq!(policy.validate(), Ok(()));
    let exact = LeasePolicy { rate_error_ppm: 0, ..policy };
    assert_eq!(exact.manager_wait_ms(), 4_000);
}

#[test]
fn lengths_that_do_not_fit_together_are_refused_with_the_figures() {
    let policy = LeasePolicy::default();
    let cases = [
        (LeasePolicy { heartbeat_ms: 0, ..policy }, "lease_ttl_ms: 2500 ms must be at least three heartbeats of 0 ms"),
        (
            LeasePolicy { heartbeat_ms: 1_001, ..policy },
            "lease_ttl_ms: 2500 ms must be at least three heartbeats of 1001 ms",
        ),
        (
            LeasePolicy { kill_ms: 2_501, ..policy },
            "lease_ttl_ms: 2500 ms is shorter than the time that killing takes (2501 ms)",
        ),
        (
            LeasePolicy { rate_error_ppm: 1_000_000, ..policy },
            "lease_ttl_ms: leases are limited to one hour and rate errors to a half",
        ),
        (
            LeasePolicy { down_after_ms: 1_499, ..policy },
            "down_after_ms: disconnected_after_ms must be at least two heartbeats, and down_after_ms not shorter",
        ),
    ];
    for (wrong, text) in cases {
        assert_eq!(wrong.validate().expect_err("it does not fit").to_string(), text);
    }
}

#[test]
fn a_new_leader_gives_each_node_its_full_time_and_leaves_those_that_are_down() {
    let policy = LeasePolicy::default();
    let [silent, down, disconnected, heard] = [1, 2, 3, 4].map(NodeId::from_random);
    let known = [(silent, NodeState::Ready), (down, NodeState::Down), (disconnected, NodeState::Disconnected)];
    let mut leases = LeaderLeases::new(policy, 10_000, known.into_iter().chain([(heard, NodeState::Ready)]));
    let mut heard_ms = 10_000;
    let mut due = |leases: &mut LeaderLeases, now_ms: u64| {
        while heard_ms <= now_ms {
            leases.granted(heard, heard_ms);
            heard_ms += policy.heartbeat_ms;
        }
        leases.due(now_ms, |_| true)
    };
    let wait_ms = policy.manager_wait_ms();
    assert_eq!(leases.next_deadline_ms(10_000), Some(10_000 + policy.disconnected_after_ms));
    assert_eq!(due(&mut leases, 10_000 + wait_ms - 1), [(silent, NodeState::Disconnected)], "told before: not again");
    // Half of the nodes at once: one by one.
    assert_eq!(due(&mut leases, 10_000 + wait_ms), [(silent, NodeState::Down)]);
    let next_ms = 10_000 + wait_ms + policy.mass_interval_ms;
    assert_eq!(due(&mut leases, next_ms), [(disconnected, NodeState::Down)]);
    let late_ms = next_ms + 100_000;
    assert_eq!(due(&mut leases, late_ms), [], "told once");
    leases.untold(silent, NodeState::Disconnected);
    assert_eq!(due(&mut leases, late_ms), [(silent, NodeState::Down)], "unless telling failed");
    for node in [silent, heard] {
        leases.forget(node, late_ms);
    }
    assert_eq!(leases.next_deadline_ms(0), None);
}

proptest! {
    /// The whole promise: whatever the delays and the clocks within the bound, the leader gives away only after the
    /// worker has stopped. Real time in µs; the last heartbeat is sent at 0 by either clock.
    #[test]
    fn the_leader_never_gives_away_before_the_worker_has_stopped(
        lease_ttl_ms in 1_500_u64..3_600_000,
        kill_ms in 0_u64..1_500,
        rate_error_ppm in 0_u64..100_000,
        worker_share in -100_i64..=100,
        leader_share in -100_i64..=100,
        delay_us in 0_u64..10_000_000,
    ) {
        let policy = LeasePolicy { lease_ttl_ms, kill_ms, rate_error_ppm, ..LeasePolicy::default() };
        prop_assert_eq!(policy.validate(), Ok(()));
        let rate = |share: i64| 1.0 + rate_error_ppm as f64 * share as f64 / 100e6;
        let lease = WorkerLease { sent_ms: 0, ttl_ms: policy.lease_ttl_ms };
        let worker_stopped_us = lease.deadline_ms() as f64 * 1e3 / rate(worker_share) + policy.kill_ms as f64 * 1e3;

        let (node, heard) = (NodeId::from_random(1), NodeId::from_random(2));
        let leader_ms = |real_us: f64| (real_us * rate(leader_share) / 1e3) as u64;
        let granted_ms = leader_ms(delay_us as f64).max(1);
        let mut leases = LeaderLeases::new(policy, 0, [node, heard].map(|node| (node, NodeState::Ready)));
        leases.granted(node, granted_ms);
        // One ms for the leader's own rounding down of when it granted.
        let at_stop_ms = leader_ms(worker_stopped_us).saturating_sub(1);
        let down_ms = granted_ms + policy.manager_wait_ms();
        let beats = (0..down_ms).step_by(policy.disconnected_after_ms as usize - 1);
        beats.chain([down_ms]).for_each(|at_ms| leases.granted(heard, at_ms));
        let told = leases.due(at_stop_ms, |_| true);
        prop_assert!(!told.contains(&(node, NodeState::Down)), "down at {at_stop_ms}, granted at {granted_ms}: {policy:?}");
        prop_assert_eq!(leases.due(down_ms, |_| true), [(node, NodeState::Down)]);
    }

    #[test]
    fn the_next_deadline_is_never_missed(
        grants in prop::collection::vec((0_u64..4, 0_u64..20_000), 0..20),
        leased in any::<bool>(),
    ) {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, (0..4).map(|id| (NodeId::from_random(id), NodeState::Ready)));
        for (node, at_ms) in grants {
            leases.granted(NodeId::from_random(node), at_ms);
        }
        let mut now_ms = 0;
        while let Some(next_ms) = leases.next_deadline_ms(now_ms) {
            prop_assert!(next_ms > now_ms);
            let told = leases.clone().due(next_ms - 1, |_| leased);
            let due = leases.due(now_ms, |_| leased);
            prop_assert!(told.is_empty() || !due.is_empty(), "{told:?} were due between {now_ms} and {next_ms}");
            now_ms = next_ms;
        }
    }
}
