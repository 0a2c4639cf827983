//! A worker that is broken, or lies: what it says is judged report by report, counted, and what cannot be true changes
//! nothing.

use goat_core::model::{NodeId, ServiceId, Task, TaskId, TaskState};
use goat_core::state::command::{
    Action, Answer, MAX_REPORT_AHEAD_MS, MAX_REPORT_ERROR_BYTES, MAX_REPORT_WORD_BYTES, Reported, TaskReport,
};

use crate::support::{APPLIED, Leader, NOTHING_REPORTED, STALE, report_of, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const UNKNOWN: Answer = Answer::Reported(Reported { unknown: 1, ..NOTHING_REPORTED });
const FOREIGN: Answer = Answer::Reported(Reported { foreign: 1, ..NOTHING_REPORTED });
const BACKWARDS: Answer = Answer::Reported(Reported { backwards: 1, ..NOTHING_REPORTED });
const ABSURD: Answer = Answer::Reported(Reported { absurd: 1, ..NOTHING_REPORTED });

/// Two nodes, a task on one of them, that one and the other.
fn assigned() -> (Leader, Task, NodeId, NodeId) {
    let mut leader = Leader::new();
    let nodes = leader.nodes(2);
    leader.service(1, spec("web", 1));
    leader.settle();
    let task = leader.newest(WEB, 1).clone();
    let own = task.node.expect("it is assigned");
    let other = nodes.into_iter().find(|node| *node != own).expect("there are two");
    (leader, task, own, other)
}

/// The answer; unless the report took effect, every row but the meta row is as it was.
fn tell(leader: &mut Leader, node: NodeId, report: TaskReport) -> Answer {
    let before = leader.state.rows();
    let answer = leader.done(Action::ReportTasks { node, reports: vec![report] });
    if answer != APPLIED {
        assert_eq!(before[1..], leader.state.rows()[1..]);
    }
    answer
}

#[test]
fn a_report_moves_a_task_forward_only_and_only_its_own_node_may_report() {
    let (mut leader, task, own, other) = assigned();
    let mut tell = |node, state| tell(&mut leader, node, report_of(task.id, state, 5));
    assert_eq!(tell(other, TaskState::Running), FOREIGN);
    assert_eq!(tell(NodeId::from_random(77), TaskState::Running), FOREIGN, "nobody's node");
    assert_eq!(tell(own, TaskState::Assigned), STALE);
    assert_eq!(tell(own, TaskState::Running), APPLIED);
    assert_eq!(tell(own, TaskState::Running), STALE);
    for state in [TaskState::Pending, TaskState::Assigned, TaskState::Starting, TaskState::Lost] {
        assert_eq!(tell(own, state), BACKWARDS, "{state:?} after running");
    }
    assert_eq!(tell(own, TaskState::Failed), APPLIED);
    for state in [TaskState::Running, TaskState::Complete, TaskState::Failed, TaskState::Stopped, TaskState::Rejected] {
        assert_eq!(tell(own, state), STALE, "{state:?} after the end");
    }
    for state in [TaskState::Pending, TaskState::Lost] {
        assert_eq!(tell(own, state), BACKWARDS, "{state:?} is never a worker's to say");
    }
}

#[test]
fn a_task_that_is_not_there_is_unknown() {
    let (mut leader, _, own, _) = assigned();
    assert_eq!(tell(&mut leader, own, report_of(TaskId::from_random(4_711), TaskState::Running, 5)), UNKNOWN);
}

#[test]
fn a_task_that_waits_for_a_node_is_nobodys() {
    let mut leader = Leader::new();
    leader.service(1, spec("web", 1));
    leader.settle();
    let pending = leader.newest(WEB, 1).id;
    let node = leader.node(1, goat_core::model::Inventory::default());
    assert_eq!(tell(&mut leader, node, report_of(pending, TaskState::Running, 5)), FOREIGN);
    assert_eq!(tell(&mut leader, node, report_of(pending, TaskState::Complete, 5)), FOREIGN);
}

#[test]
fn texts_beyond_the_limits_are_refused_and_those_at_the_limits_are_not() {
    let (mut leader, task, own, _) = assigned();
    let report = |error: usize, reason: usize, container: usize| TaskReport {
        error: Some("x".repeat(error)),
        reason: Some("x".repeat(reason)),
        container_id: Some("x".repeat(container)),
        ..report_of(task.id, TaskState::Running, 5)
    };
    let (error, word) = (MAX_REPORT_ERROR_BYTES, MAX_REPORT_WORD_BYTES);
    for wrong in [report(error + 1, 1, 1), report(1, word + 1, 1), report(1, 1, word + 1)] {
        assert_eq!(tell(&mut leader, own, wrong), ABSURD);
    }
    assert_eq!(tell(&mut leader, own, report(error, word, word)), APPLIED);
}

#[test]
fn a_clock_that_is_ahead_counts_as_now_and_one_that_is_nonsense_is_refused() {
    let (mut leader, task, own, _) = assigned();
    let now_ms = leader.now_ms;
    let at = |at_ms| report_of(task.id, TaskState::Running, at_ms);
    for absurd_ms in [now_ms + MAX_REPORT_AHEAD_MS + 1, u64::MAX] {
        assert_eq!(tell(&mut leader, own, at(absurd_ms)), ABSURD);
    }
    assert_eq!(tell(&mut leader, own, at(now_ms + MAX_REPORT_AHEAD_MS)), APPLIED);
    assert_eq!(leader.newest(WEB, 1).started_at_ms, Some(now_ms));
    leader.pass(1_000);
    assert_eq!(tell(&mut leader, own, report_of(task.id, TaskState::Failed, 7)), APPLIED);
    let ended = leader.state.task(task.id).expect("it is remembered");
    assert_eq!(ended.finished_at_ms, Some(now_ms), "it has not ended before it began");
}

#[test]
fn one_lie_among_truths_costs_only_itself() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 3));
    leader.settle();
    let node = leader.newest(WEB, 1).node.expect("it is assigned");
    let id = |slot| leader.newest(WEB, slot).id;
    let reports = vec![
        report_of(id(1), TaskState::Running, 5),
        report_of(id(1), TaskState::Starting, 5),
        report_of(TaskId::from_random(4_711), TaskState::Running, 5),
        report_of(id(2), TaskState::Running, u64::MAX),
        report_of(id(3), TaskState::Running, 5),
        report_of(id(3), TaskState::Running, 5),
    ];
    let counts = Reported { applied: 2, stale: 1, unknown: 1, foreign: 0, backwards: 1, absurd: 1 };
    assert_eq!(counts.untrue(), 2);
    assert_eq!(leader.done(Action::ReportTasks { node, reports }), Answer::Reported(counts));
    assert_eq!(leader.picture(WEB), ["1 running w1", "2 assigned w1", "3 running w1"]);
}
