//! A thousand tasks wait for their next attempt while leaders change: none is lost, doubled or early.

use std::collections::BTreeMap;

use goat_core::model::{NodeId, ServiceId, Task, TaskState};
use goat_core::plan::Plan;
use goat_core::state::command::{Action, Answer, TaskReport};

use crate::support::{Leader, Random, report_of, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const TASKS: u32 = 1_000;
const STEP_MS: u64 = 100;

/// Each node reports so of all its tasks of which that is to be said.
fn report_all(leader: &mut Leader, state: TaskState, of: impl Fn(&Task) -> bool) {
    leader.settle();
    let mut by_node: BTreeMap<NodeId, Vec<TaskReport>> = BTreeMap::new();
    for task in leader.state.tasks().filter(|task| task.state < state && of(task)) {
        if let Some(node) = task.node {
            by_node.entry(node).or_default().push(report_of(task.id, state, leader.now_ms));
        }
    }
    for (node, reports) in by_node {
        leader.done(Action::ReportTasks { node, reports });
    }
    leader.settle();
}

/// A thousand slots whose tasks failed for the second time in a row, within a second; and when each may come again.
fn in_backoff() -> (Leader, BTreeMap<u32, u64>) {
    let mut leader = Leader::new();
    leader.nodes(10);
    let mut wanted = spec("web", TASKS);
    wanted.restart.delay_ms = 5_000;
    leader.service(1, wanted);
    report_all(&mut leader, TaskState::Running, |_| true);
    report_all(&mut leader, TaskState::Failed, |_| true);
    report_all(&mut leader, TaskState::Running, |_| true);
    for tenth in 0..10 {
        report_all(&mut leader, TaskState::Failed, |task| task.slot % 10 == tenth);
        leader.pass(STEP_MS);
    }
    let newest = (1..=TASKS).map(|slot| leader.newest(WEB, slot));
    let waiting = newest.filter(|task| (task.attempt, task.state) == (3, TaskState::Pending));
    let due: BTreeMap<u32, u64> = waiting.map(|task| (task.slot, task.not_before_ms)).collect();
    assert_eq!(due.len(), TASKS as usize);
    (leader, due)
}

/// A new leader, some from what they have applied and some from their disk; and the plan that the one before it may still
/// propose.
fn change_leader(leader: &mut Leader, random: &mut Random) -> Plan {
    let late = leader.plan();
    if random.once_in(2) {
        leader.state = leader.reload();
    }
    leader.elect();
    late
}

/// The old leader's plan comes before the new one's first, or after it.
fn settle_with(leader: &mut Leader, late: Plan, random: &mut Random) {
    let steps = late.steps.len() as u32;
    if random.once_in(2) {
        assert_eq!(leader.carry_out(late), Answer::Counted { applied: steps, stale: 0 });
        leader.settle();
    } else {
        leader.settle();
        assert_eq!(leader.carry_out(late), Answer::Counted { applied: 0, stale: steps });
    }
}

#[test]
fn a_change_of_leader_loses_doubles_and_hastens_no_attempt_of_a_thousand_that_wait() {
    let random = &mut Random(5);
    let (mut leader, due) = in_backoff();
    let (first_ms, last_ms) = (due.values().min().copied(), due.values().max().copied());
    let last_ms = last_ms.expect("all wait");
    assert!(last_ms - first_ms.expect("all wait") > 1_000, "they do not come all at once");
    let (mut came, mut changes, mut midst) = (BTreeMap::new(), 0, 0);
    while leader.now_ms < last_ms {
        leader.pass(STEP_MS);
        if random.once_in(3) {
            changes += 1;
            midst += u32::from(!came.is_empty() && came.len() < due.len());
            let late = change_leader(&mut leader, random);
            settle_with(&mut leader, late, random);
        }
        leader.settle();
        for slot in due.keys().filter(|slot| leader.newest(WEB, **slot).state != TaskState::Pending) {
            came.entry(*slot).or_insert(leader.now_ms);
        }
    }
    assert!(changes > 10 && midst > 2, "{changes} changes of leader, {midst} while some had come and some had not");
    assert_eq!(came.len(), due.len(), "none is lost");
    for (slot, not_before_ms) in &due {
        let early_or_late = came[slot] < *not_before_ms || came[slot] >= not_before_ms + STEP_MS;
        assert!(!early_or_late, "{WEB}.{slot} was due at {not_before_ms} and came at {}", came[slot]);
        let tasks = leader.state.slot(WEB, *slot).iter().filter_map(|id| leader.state.task(*id));
        let attempts: Vec<u32> = tasks.map(|task| task.attempt).collect();
        assert_eq!(attempts, [1, 2, 3], "{WEB}.{slot} has one of each");
    }
    report_all(&mut leader, TaskState::Running, |_| true);
    assert_eq!(leader.state.running(WEB), TASKS);
    leader.assert_settled();
}

const HOUR_MS: u64 = 3_600_000;

/// A leader whose clock is an hour ahead, and what it has written down of a task that waits.
fn waiting_while_its_clock_is_ahead() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    leader.now_ms += HOUR_MS;
    for _ in 0..3 {
        leader.work();
        leader.report(leader.newest(WEB, 1).id, TaskState::Failed);
        leader.settle();
        leader.pass(3_000);
    }
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Pending, "it waits");
    leader
}

/// Somebody sets its clock right.
#[test]
fn a_leader_whose_clock_is_set_back_lets_nothing_wait_for_an_hour() {
    let mut leader = waiting_while_its_clock_is_ahead();
    leader.now_ms -= HOUR_MS;
    let plan = leader.plan();
    let wait_ms = plan.wake_at_ms.expect("it waits for a time") - leader.now_ms;
    assert!(plan.is_empty() && wait_ms < 10_000, "as long as it had to: {wait_ms} ms");
    leader.pass(wait_ms);
    leader.work();
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Running);
}

/// An earlier leader's clock was an hour ahead, and what it wrote down is an hour ahead too.
#[test]
fn a_new_leader_whose_clock_is_an_hour_behind_lets_nothing_wait_for_an_hour() {
    let mut leader = waiting_while_its_clock_is_ahead();
    for _ in 0..3 {
        // Each is a while later than the one before, and none has the clock of the first.
        leader.now_ms = leader.now_ms.min(1_100_000) + 60_000;
        leader.elect();
        leader.settle();
        leader.pass(10_000);
        leader.work();
        assert_eq!(leader.newest(WEB, 1).state, TaskState::Running);
        leader.report(leader.newest(WEB, 1).id, TaskState::Failed);
        leader.settle();
    }
}
