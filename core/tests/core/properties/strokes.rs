//! Strokes against the state: commands of every kind, sensible or not.

use goat_core::model::{
    Availability, Cause, ClusterId, Desired, NodeId, NodeState, OnDisconnect, RequestId, RestartCondition, ServiceId,
    ServiceSpec, TaskId, TaskState,
};
use goat_core::scheduler::mix;
use goat_core::state::command::{Action, Command, NewTask, Step, TaskReport};
use proptest::prelude::*;

use crate::support::{GIB, Leader, needing, sized, spec, tcp};

/// One stroke against the state. Numbers pick among what is there at the time, so that most strokes hit something.
#[derive(Debug, Clone)]
pub enum Stroke {
    /// What the planner wants: without it nothing would ever be there to be hit.
    PlanAndCarryOut,
    /// As above, with the same random command in between, so that the plan is stale.
    PlanLate(Box<Stroke>),
    Elect,
    Service {
        number: u64,
        what: u8,
        variant: u8,
    },
    Node {
        number: u64,
        what: u8,
        variant: u8,
    },
    Report {
        task: u8,
        own_node: bool,
        state: u8,
        at_ms: u64,
    },
    Step {
        what: u8,
        task: u8,
        node: u64,
        sees: Sees,
        variant: u8,
    },
    Pass {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum Sees {
    Now,
    Version(u64),
}

fn sees() -> impl Strategy<Value = Sees> {
    prop_oneof![3 => Just(Sees::Now), 1 => prop_oneof![0_u64..40, Just(u64::MAX)].prop_map(Sees::Version)]
}

pub fn stroke() -> impl Strategy<Value = Stroke> {
    let number = || prop_oneof![9 => 1_u64..5, 1 => any::<u64>()];
    let at_ms = prop_oneof![9 => 0_u64..2_000_000, 1 => any::<u64>()];
    let plain = prop_oneof![
        6 => Just(Stroke::PlanAndCarryOut),
        1 => Just(Stroke::Elect),
        4 => (number(), any::<u8>(), any::<u8>()).prop_map(|(number, what, variant)| Stroke::Service { number, what, variant }),
        4 => (number(), any::<u8>(), any::<u8>()).prop_map(|(number, what, variant)| Stroke::Node { number, what, variant }),
        6 => (any::<u8>(), prop::bool::weighted(0.9), any::<u8>(), at_ms)
            .prop_map(|(task, own_node, state, at_ms)| Stroke::Report { task, own_node, state, at_ms }),
        4 => (any::<u8>(), any::<u8>(), number(), sees(), any::<u8>())
            .prop_map(|(what, task, node, sees, variant)| Stroke::Step { what, task, node, sees, variant }),
        2 => (0_u64..100_000).prop_map(|ms| Stroke::Pass { ms }),
    ];
    plain.prop_flat_map(|stroke| prop_oneof![6 => Just(stroke.clone()), 1 => Just(Stroke::PlanLate(Box::new(stroke)))])
}

fn some_spec(number: u64, variant: u8) -> ServiceSpec {
    let mut some = spec(&format!("s{}", number % 7), u32::from(variant % 5));
    some.image = format!("app:{}", variant / 5 % 3);
    some.reservations = needing(u64::from(variant % 4) * 700, u64::from(variant % 3) * GIB / 2);
    if variant % 4 == 1 {
        some.ports = vec![tcp(7_000 + u16::from(variant % 3))];
    }
    some.placement.max_per_node = u32::from(variant % 11 == 3);
    some.restart.condition =
        [RestartCondition::Always, RestartCondition::No, RestartCondition::OnFailure][usize::from(variant % 3)];
    some.on_disconnect = [None, Some(OnDisconnect::Keep), Some(OnDisconnect::Stop)][usize::from(variant / 3 % 3)];
    if variant == 255 {
        some.name = "NOT A NAME".into();
    }
    some
}

fn service_action(leader: &Leader, number: u64, what: u8, variant: u8) -> Action {
    let id = ServiceId::from_random(number);
    let boxed = || Box::new(some_spec(number, variant));
    match what % 8 {
        0..=2 => Action::CreateService { id, spec: boxed() },
        3 | 4 => {
            let name = leader.state.service(id).map(|service| service.spec.name.clone());
            let spec = Box::new(ServiceSpec { name: name.unwrap_or_default(), ..*boxed() });
            Action::UpdateService { id, seen_version: (what > 200).then_some(u64::from(variant)), spec }
        }
        5 => Action::ScaleService { id, replicas: if variant == 255 { u32::MAX } else { u32::from(variant % 6) } },
        6 => Action::RemoveService { id },
        _ => Action::InitCluster { id: ClusterId::from_random(number) },
    }
}

fn node_action(leader: &Leader, number: u64, what: u8, variant: u8) -> Action {
    let node = NodeId::from_random(number);
    let inventory = || sized(u64::from(variant % 5) * 1_000, u64::from(variant % 4) * GIB);
    let name = match variant {
        0..=199 => format!("w{}", number % 6),
        // Some workers take another's name, or the name that a node without a name of its own goes by.
        200..=225 => format!("w{}", variant % 6),
        226..=250 => NodeId::from_random(u64::from(variant % 6)).to_string(),
        _ => String::new(),
    };
    let state = [NodeState::Ready, NodeState::Disconnected, NodeState::Down][usize::from(variant % 3)];
    match what % 8 {
        0..=2 => Action::RegisterNode {
            node,
            name,
            address: "here".into(),
            labels: Default::default(),
            inventory: inventory(),
            running: claims(leader, node, variant),
        },
        3 => Action::UpdateInventory { node, inventory: inventory() },
        4 | 5 => {
            let version = leader.state.node(node).map_or(0, |node| node.version);
            Action::SetNodeState { node, seen_version: if what > 200 { u64::from(variant) } else { version }, state }
        }
        6 => Action::RemoveNode { node },
        _ => {
            let availability = if variant.is_multiple_of(2) { Availability::Active } else { Availability::Drain };
            Action::SetAvailability { node, availability }
        }
    }
}

/// A worker may claim whatever there is or was; some claim it twice.
fn claims(leader: &Leader, node: NodeId, variant: u8) -> Vec<TaskId> {
    match variant % 4 {
        0 => vec![],
        1 => leader.state.tasks_of_node(node).map(|task| task.id).collect(),
        _ => leader.state.tasks().map(|task| task.id).chain([TaskId::from_random(u64::from(variant)); 2]).collect(),
    }
}

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

fn some_task(leader: &Leader, pick: u8) -> TaskId {
    let count = leader.state.tasks().len();
    let at = usize::from(pick) % (count + 1);
    leader.state.tasks().nth(at).map_or(TaskId::from_random(u64::from(pick)), |task| task.id)
}

fn report_action(leader: &Leader, task: u8, own_node: bool, state: u8, at_ms: u64) -> Action {
    let id = some_task(leader, task);
    let own = leader.state.task(id).and_then(|task| task.node).filter(|_| own_node);
    let report = TaskReport {
        task: id,
        state: STATES[usize::from(state) % STATES.len()],
        exit_code: (state > 128).then_some(i32::from(state)),
        reason: state.is_multiple_of(2).then(|| "exit".to_owned()),
        error: None,
        container_id: state.is_multiple_of(3).then(|| format!("c{task}")),
        at_ms,
    };
    Action::ReportTasks {
        node: own.unwrap_or(NodeId::from_random(u64::from(task % 5))),
        reports: vec![report.clone(), report],
    }
}

fn some_step(leader: &Leader, what: u8, pick: u8, node: u64, sees: Sees, variant: u8) -> Step {
    let id = some_task(leader, pick);
    let task = leader.state.task(id);
    let version = |now: Option<u64>| match sees {
        Sees::Now => now.unwrap_or(0),
        Sees::Version(version) => version,
    };
    let seen_version = version(task.map(|task| task.version));
    let node = NodeId::from_random(node);
    let service = task.map_or(ServiceId::from_random(u64::from(pick % 5)), |task| task.service);
    let service_version = version(leader.state.service(service).map(|service| service.version));
    match what % 6 {
        0 => Step::Assign { task: id, seen_version, node },
        1 => Step::Explain { task: id, seen_version, error: format!("because {variant}") },
        2 => {
            let desired = [Desired::Running, Desired::Stopped, Desired::Removed][usize::from(variant % 3)];
            Step::Desire { task: id, seen_version, desired, cause: Cause::Health }
        }
        3 => Step::Forget { task: id, seen_version },
        4 => Step::ForgetService { service, seen_version: service_version },
        _ => {
            let slot = u32::from(variant % 7);
            let previous = leader.state.slot(service, slot).last().copied();
            let attempt =
                previous.and_then(|id| leader.state.task(id)).map_or(1, |task| task.attempt.saturating_add(1));
            Step::CreateTask(NewTask {
                id: TaskId::from_random(mix(u64::from(what) << 16 | u64::from(variant) << 8 | u64::from(pick))),
                service,
                seen_version: service_version,
                slot,
                previous: if variant > 240 { Some(id) } else { previous },
                attempt: if variant % 16 == 5 { u32::MAX } else { attempt },
                failures: u32::from(variant),
                not_before_ms: 0,
                cause: Cause::User,
                node: Some(node),
            })
        }
    }
}

pub fn strike(leader: &mut Leader, stroke: &Stroke, request: Option<RequestId>, log: &mut Vec<Command>) {
    let action = match stroke {
        Stroke::Elect => return leader.elect(),
        Stroke::Pass { ms } => return leader.pass(*ms),
        Stroke::PlanAndCarryOut => Action::Plan { steps: leader.plan().steps },
        Stroke::PlanLate(between) => {
            let plan = leader.plan();
            strike(leader, between, None, log);
            Action::Plan { steps: plan.steps }
        }
        Stroke::Service { number, what, variant } => service_action(leader, *number, *what, *variant),
        Stroke::Node { number, what, variant } => node_action(leader, *number, *what, *variant),
        Stroke::Report { task, own_node, state, at_ms } => report_action(leader, *task, *own_node, *state, *at_ms),
        Stroke::Step { what, task, node, sees, variant } => {
            let step = some_step(leader, *what, *task, *node, *sees, *variant);
            Action::Plan { steps: vec![step.clone(), step] }
        }
    };
    let command = Command { now_ms: leader.now_ms, request, action };
    leader.command(&command);
    log.push(command);
}
