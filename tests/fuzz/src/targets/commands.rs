//! Any sequence of commands: it is applied without a fall, to the same end on every manager, also on one that is restarted
//! from its rows anywhere, and the checker finds nothing.
//!
//! Bytes are read as choices, four a command: what, of whom, and two numbers. So most of them hit something that is there.

use std::collections::BTreeMap;

use goat_core::check::check_state;
use goat_core::model::{
    Authority, Availability, Cause, ClusterId, Desired, NodeId, NodeState, OnDisconnect, RequestId, Resources, Secret,
    ServiceId, ServiceSpec, Standing, TaskId, TaskState,
};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::command::{Action, Command, NewTask, Step};
use goat_core::state::{At, State};

use super::samples;

const STATES: [TaskState; 10] = [
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Preparing,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Failed,
    TaskState::Stopped,
    TaskState::Rejected,
    TaskState::Lost,
];

pub(super) fn samples() -> Vec<Vec<u8>> {
    // Nodes and services, plans, reports; then a node falls silent and is back, an update, a drain, a removal.
    let life: &[[u8; 4]] = &[
        [0, 0, 1, 0],
        [0, 1, 1, 0],
        [1, 0, 2, 1],
        [9, 0, 0, 0],
        [7, 0, 4, 0],
        [7, 1, 4, 0],
        [8, 0, 2, 0],
        [9, 0, 0, 0],
        [0, 0, 1, 1],
        [9, 0, 0, 0],
        [2, 0, 3, 0],
        [9, 0, 0, 0],
        [5, 1, 1, 0],
        [9, 0, 0, 0],
        [4, 0, 0, 0],
        [9, 0, 0, 0],
        [9, 0, 0, 0],
    ];
    vec![life.concat(), life.iter().rev().copied().collect::<Vec<_>>().concat()]
}

fn pick<T: Copy>(all: impl Iterator<Item = T>, at: u8) -> Option<T> {
    let all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| all[usize::from(at) % all.len()])
}

fn service(a: u8, b: u8) -> ServiceSpec {
    let leased = [None, Some(OnDisconnect::Keep), Some(OnDisconnect::Stop), Some(OnDisconnect::StopIfIsolated)];
    let mut spec =
        ServiceSpec { name: format!("s{}", a % 4), on_disconnect: leased[usize::from(b % 4)], ..samples::spec() };
    spec.mode = goat_core::model::Mode::Replicated { replicas: u32::from(b) % 6 };
    spec.image = format!("app:{}", b / 32);
    spec.placement = Default::default();
    spec.reservations = Resources { cpu_millis: u64::from(b) * 20, ..Resources::ZERO };
    spec.limits = Resources::ZERO;
    if !b.is_multiple_of(3) {
        spec.ports.clear();
    }
    spec
}

/// None where there is nothing that it could be about.
fn action(state: &State, [what, who, a, b]: [u8; 4]) -> Option<Action> {
    let node = NodeId::from_random(u64::from(who % 4) + 1);
    let id = pick(state.services().map(|service| service.id), who);
    let seen = |state: &State| state.node(node).map_or(u64::from(b), |row| row.version);
    Some(match what % 16 {
        0 => register(state, node, a, b),
        1 => Action::CreateService { id: ServiceId::from_random(u64::from(who)), spec: Box::new(service(a, b)) },
        2 => Action::UpdateService { id: id?, seen_version: None, spec: Box::new(service(a, b)) },
        3 => Action::ScaleService { id: id?, replicas: u32::from(a) % 7 },
        4 => Action::RemoveService { id: id? },
        5 => {
            let availability = if a % 2 == 0 { Availability::Active } else { Availability::Drain };
            Action::SetAvailability { node, availability }
        }
        6 => Action::RemoveNode { node },
        7 => {
            let task = pick(state.tasks().map(|task| (task.id, task.node)), who)?;
            let report = samples::report(task.0.bits(), STATES[usize::from(a) % STATES.len()]);
            Action::ReportTasks { node: task.1.filter(|_| b < 250).unwrap_or(node), reports: vec![report] }
        }
        8 => {
            let state_to = [NodeState::Ready, NodeState::Disconnected, NodeState::Down][usize::from(a) % 3];
            Action::SetNodeState { node, seen_version: seen(state), state: state_to }
        }
        9 | 10 => {
            let mut planner = Planner::new(state, Policy::default());
            let plan = planner.plan(state, state.clock_ms(), u64::from(a));
            Action::Plan { steps: plan.steps }
        }
        11 => Action::Plan { steps: steps(state, who, a, b) },
        12 => Action::AddManager { name: format!("m{}", who % 4), address: format!("10.0.0.{}:7700", a % 4) },
        13 => {
            let standing = [Standing::Voter, Standing::Learner, Standing::Removed][usize::from(a) % 3];
            Action::SetManager { id: u64::from(who % 6), standing }
        }
        14 => security(state, who, b),
        _ => cluster(state, who, a, b),
    })
}

fn register(state: &State, node: NodeId, a: u8, b: u8) -> Action {
    Action::RegisterNode {
        node,
        name: format!("w{}", a % 5),
        address: "10.0.0.1".into(),
        labels: BTreeMap::new(),
        inventory: samples::inventory(),
        running: if b.is_multiple_of(2) { vec![] } else { state.tasks().map(|task| task.id).collect() },
    }
}

fn security(state: &State, who: u8, b: u8) -> Action {
    let authority = Authority { certificate: format!("c{b}"), key: Secret::new(format!("k{b}")) };
    let secrets =
        || goat_core::model::JoinSecrets { manager: Secret::new("m".into()), worker: Secret::new("w".into()) };
    match who % 3 {
        0 => Action::InitSecurity { authority, secrets: secrets() },
        1 => Action::AnnounceAuthority { authority },
        _ => Action::AdvanceRotation { seen_version: state.security().map_or(0, |security| security.version) },
    }
}

fn cluster(state: &State, who: u8, a: u8, b: u8) -> Action {
    match who % 6 {
        0 => Action::InitCluster { id: ClusterId::from_random(u64::from(a)) },
        1 => Action::Freeze { for_ms: u64::from(a) * u64::from(b) },
        2 => Action::EndFreeze { seen_version: state.freeze().map_or(0, |freeze| freeze.version) },
        3 => Action::SetFormat { format: goat_core::codec::FORMAT },
        4 => Action::StopFreeze,
        _ => Action::Recover { survivor: u64::from(a % 4), address: None, leap: u64::from(b) },
    }
}

/// Steps that no planner makes.
fn steps(state: &State, who: u8, a: u8, b: u8) -> Vec<Step> {
    let Some(task) = pick(state.tasks(), who) else { return Vec::new() };
    let (id, seen_version) = (task.id, task.version);
    let node = NodeId::from_random(u64::from(b % 4) + 1);
    let desired = [Desired::Running, Desired::Stopped, Desired::Removed][usize::from(b) % 3];
    vec![match a % 5 {
        0 => Step::Assign { task: id, seen_version, node },
        1 => Step::Desire { task: id, seen_version, desired, cause: Cause::Drain },
        2 => Step::Forget { task: id, seen_version },
        3 => Step::ForgetService { service: task.service, seen_version },
        _ => Step::CreateTask(NewTask {
            id: TaskId::from_random(u64::from(b)),
            service: task.service,
            seen_version: state.service(task.service).map_or(0, |service| service.version),
            slot: task.slot + u32::from(b % 2),
            previous: Some(id),
            attempt: task.attempt.saturating_add(1),
            failures: u32::from(b),
            not_before_ms: 0,
            cause: Cause::User,
            node: Some(node),
        }),
    }]
}

pub(super) fn apply(bytes: &[u8]) {
    let (mut one, mut other) = (State::new(), State::new());
    let restart_at = bytes.len() / 8;
    for (number, choice) in bytes.chunks_exact(4).take(400).enumerate() {
        let choice = [choice[0], choice[1], choice[2], choice[3]];
        let Some(action) = action(&one, choice) else { continue };
        let request = (choice[0] >= 128).then(|| RequestId::from_random(u64::from(choice[3] % 8)));
        let command = Command { now_ms: 1_000 * number as u64, request, action };
        let at = At { index: number as u64 + 1, term: 1 };
        let outcome = one.apply(at, &command, &mut Vec::new());
        assert_eq!(outcome, other.apply(at, &command, &mut Vec::new()), "{command:?}");
        if number == restart_at {
            let rows = other.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
            other = State::from_rows(rows).expect("its own rows make a state");
        }
        if number % 16 == 0 {
            assert_eq!(check_state(&one), [], "after {command:?}");
        }
    }
    assert_eq!(check_state(&one), []);
    assert_eq!(check_state(&other), []);
    assert_eq!(one.hash(), other.hash());
}
