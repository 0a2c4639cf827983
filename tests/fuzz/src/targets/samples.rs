//! Values as they are in production, for several targets.

use std::collections::BTreeMap;

use goat_core::model::{
    Authority, Availability, Cause, ClusterId, Constraint, Desired, Driver, HealthCheck, HealthProbe, Inventory,
    Invited, JoinSecrets, Mode, Mount, NodeId, NodeState, OnDisconnect, Port, Protocol, RequestId, Resources,
    RestartCondition, Secret, ServiceId, ServiceSpec, Standing, TaskId, TaskState,
};
use goat_core::state::command::{Action, Command, NewTask, Step, TaskReport};

pub(super) fn spec() -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: "web".into(),
        driver: Driver::Docker,
        image: "registry.example:5000/app/web:1.0".into(),
        command: vec!["/bin/web".into()],
        args: vec!["--port".into(), "80".into()],
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        mode: Mode::Replicated { replicas: 3 },
        reservations: Resources { cpu_millis: 250, memory_bytes: 64 << 20, disk_bytes: 0 },
        limits: Resources { cpu_millis: 500, memory_bytes: 128 << 20, disk_bytes: 0 },
        ports: vec![Port { host_port: 8_080, container_port: 80, protocol: Protocol::Tcp }],
        mounts: vec![Mount { source: "data".into(), target: "/data".into(), read_only: true }],
        on_disconnect: Some(OnDisconnect::Stop),
        health: Some(HealthCheck {
            probe: HealthProbe::Http { port: 80, path: "/health".into() },
            interval_ms: 5_000,
            timeout_ms: 1_000,
            start_period_ms: 10_000,
            retries: 3,
        }),
        stop_grace_ms: 10_000,
        ..ServiceSpec::default()
    };
    spec.restart.condition = RestartCondition::OnFailure;
    spec.restart.max_attempts = Some(5);
    spec.placement.constraints = vec![Constraint { label: "zone".into(), equal: true, value: "a".into() }];
    spec
}

pub(super) fn report(task: u64, state: TaskState) -> TaskReport {
    TaskReport {
        task: TaskId::from_random(task),
        state,
        exit_code: Some(1),
        reason: Some("exit".into()),
        error: Some("it ended".into()),
        container_id: Some("0123456789abcdef".into()),
        at_ms: 1_700_000_000_000,
    }
}

pub(super) fn inventory() -> Inventory {
    Inventory {
        total: Resources { cpu_millis: 4_000, memory_bytes: 4 << 30, disk_bytes: 10 << 30 },
        drivers: [Driver::Docker, Driver::Process].into(),
        disk_free_bytes: 10 << 30,
        agent_version: "0.1.0".into(),
        agent_address: "10.0.0.1:7800".into(),
        ..Inventory::default()
    }
}

fn new_task() -> NewTask {
    NewTask {
        id: TaskId::from_random(1),
        service: ServiceId::from_random(1),
        seen_version: 3,
        slot: 1,
        previous: None,
        attempt: 1,
        failures: 0,
        not_before_ms: 0,
        cause: Cause::User,
        node: Some(NodeId::from_random(1)),
    }
}

fn steps() -> Vec<Step> {
    let (task, seen_version) = (TaskId::from_random(1), 4);
    vec![
        Step::CreateTask(new_task()),
        Step::Assign { task, seen_version, node: NodeId::from_random(1) },
        Step::Explain { task, seen_version, error: "no node fits: there is no node".into() },
        Step::Desire { task, seen_version, desired: Desired::Stopped, cause: Cause::Drain },
        Step::Forget { task, seen_version },
        Step::ForgetService { service: ServiceId::from_random(1), seen_version },
    ]
}

/// One of each kind.
pub(super) fn actions() -> Vec<Action> {
    let (service, node) = (ServiceId::from_random(1), NodeId::from_random(1));
    let secret = || Secret::new("secret".into());
    let authority = || Authority { certificate: "PEM".into(), key: secret() };
    vec![
        Action::InitCluster { id: ClusterId::from_random(1) },
        Action::InitSecurity { authority: authority(), secrets: JoinSecrets { manager: secret(), worker: secret() } },
        Action::RegisterNode {
            node,
            name: "w1".into(),
            address: "10.0.0.1".into(),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            inventory: inventory(),
            running: vec![TaskId::from_random(1)],
        },
        Action::CreateService { id: service, spec: Box::new(spec()) },
        Action::Plan { steps: steps() },
        Action::ReportTasks { node, reports: vec![report(1, TaskState::Running), report(1, TaskState::Failed)] },
        Action::UpdateService { id: service, seen_version: Some(4), spec: Box::new(spec()) },
        Action::ScaleService { id: service, replicas: 2 },
        Action::SetAvailability { node, availability: Availability::Drain },
        Action::SetNodeState { node, seen_version: 3, state: NodeState::Down },
        Action::UpdateInventory { node, inventory: inventory() },
        Action::RemoveNode { node },
        Action::AddManager { name: "m1".into(), address: "10.0.0.2:7700".into() },
        Action::SetManager { id: 1, standing: Standing::Learner },
        Action::Recover { survivor: 1, address: None, leap: 1_000 },
        Action::RotateJoinSecret { invited: Invited::Worker, secret: secret() },
        Action::AnnounceAuthority { authority: authority() },
        Action::AdvanceRotation { seen_version: 5 },
        Action::Freeze { for_ms: 60_000 },
        Action::StopFreeze,
        Action::EndFreeze { seen_version: 6 },
        Action::SetFormat { format: 1 },
        Action::RemoveService { id: service },
    ]
}

pub(super) fn commands() -> Vec<Command> {
    let request = |number: usize| number.is_multiple_of(2).then(|| RequestId::from_random(number as u64));
    let command = |(number, action)| Command { now_ms: 1_700_000_000_000, request: request(number), action };
    actions().into_iter().enumerate().map(command).collect()
}
