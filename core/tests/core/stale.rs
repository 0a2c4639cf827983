//! A step of a plan counts for what it saw: made on an older view of its task or service, it does nothing, whatever the
//! newer one looks like.

use goat_core::model::{Cause, Desired, ServiceId, TaskState};
use goat_core::state::command::{Action, Answer, Command, NewTask, Outcome, Step};
use goat_core::state::{At, State};

use crate::support::{Leader, needing, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const LARGE: ServiceId = ServiceId::from_random(2);
const NOT_CARRIED_OUT: Answer = Answer::Counted { applied: 0, stale: 1 };
const CARRIED_OUT: Answer = Answer::Counted { applied: 1, stale: 0 };

fn plan(state: &mut State, step: Step) -> Answer {
    let command = Command { now_ms: 2_000_000, request: None, action: Action::Plan { steps: vec![step] } };
    let at = At { index: state.applied_index() + 1, term: 1 };
    match state.apply(at, &command, &mut Vec::new()).0 {
        Outcome::Done(answer) => answer,
        Outcome::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

/// It does nothing where it saw another version than `version`, and something where it saw this one.
#[track_caller]
fn counts_only_for(leader: &Leader, version: u64, step: impl Fn(u64) -> Step) {
    let mut state = leader.reload();
    let before = state.rows();
    for other in [0, 1, version - 1, version + 1, u64::MAX] {
        let step = step(other);
        assert_eq!(plan(&mut state, step.clone()), NOT_CARRIED_OUT, "version {version}: {step:?}");
        assert_eq!(before[1..], state.rows()[1..], "{step:?}");
    }
    assert_eq!(plan(&mut state, step(version)), CARRIED_OUT, "{:?}", step(version));
}

/// One service whose task runs, and one whose task waits for room.
fn world() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    let mut large = spec("large", 1);
    large.reservations = needing(64_000, 0);
    leader.service(2, large);
    leader.work();
    leader
}

#[test]
fn a_task_that_has_gone_on_is_not_stopped_or_forgotten() {
    let mut leader = world();
    let task = leader.newest(WEB, 1).clone();
    assert_eq!(task.state, TaskState::Running);
    counts_only_for(&leader, task.version, |seen_version| Step::Desire {
        task: task.id,
        seen_version,
        desired: Desired::Stopped,
        cause: Cause::Scale,
    });
    leader.report(task.id, TaskState::Failed);
    let version = leader.newest(WEB, 1).version;
    counts_only_for(&leader, version, |seen_version| Step::Forget { task: task.id, seen_version });
}

#[test]
fn a_task_that_waits_is_not_placed_or_explained() {
    let mut leader = world();
    let task = leader.newest(LARGE, 1).clone();
    assert_eq!(task.state, TaskState::Pending);
    counts_only_for(&leader, task.version, |seen_version| Step::Explain {
        task: task.id,
        seen_version,
        error: "of another view".into(),
    });
    let mut larger = crate::support::roomy();
    larger.total.cpu_millis = 128_000;
    let node = leader.node(2, larger);
    let version = leader.newest(LARGE, 1).version;
    counts_only_for(&leader, version, |seen_version| Step::Assign { task: task.id, seen_version, node });
}

#[test]
fn a_service_that_has_changed_gets_no_task_and_is_not_forgotten() {
    let mut leader = world();
    leader.done(Action::ScaleService { id: WEB, replicas: 2 });
    let version = leader.state.service(WEB).expect("it is there").version;
    let new = |seen_version| NewTask {
        id: goat_core::model::TaskId::from_random(4_711),
        service: WEB,
        seen_version,
        slot: 2,
        previous: None,
        attempt: 1,
        failures: 0,
        not_before_ms: 0,
        cause: Cause::User,
        node: None,
    };
    counts_only_for(&leader, version, |seen_version| Step::CreateTask(new(seen_version)));
    let empty = leader.service(3, spec("empty", 0));
    leader.done(Action::RemoveService { id: empty });
    let version = leader.state.service(empty).expect("its row is there").version;
    counts_only_for(&leader, version, |seen_version| Step::ForgetService { service: empty, seen_version });
}
