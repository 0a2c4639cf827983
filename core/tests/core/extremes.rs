//! Numbers from outside at the ends of their ranges, in every command: nothing overflows, and the planner goes on.

use std::collections::BTreeMap;

use goat_core::codec::FORMAT;
use goat_core::model::{
    Availability, Cause, ClusterId, Desired, HealthCheck, HealthProbe, ImageInfo, Inventory, Mode, NodeId, NodeState,
    Port, Protocol, Resources, RestartPolicy, ServiceId, ServiceSpec, Standing, TaskId, TaskState,
};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::command::{
    Action, Command, KnownTask, NewTask, Origin, Outcome, ServiceChange, Step, TaskReport,
};
use goat_core::state::{At, State};
use proptest::prelude::*;

use crate::support::{Leader, report_of, roomy, spec};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..6,
        2 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => Just(u64::from(u32::MAX)),
        1 => Just(i64::MAX as u64),
        1 => any::<u64>()
    ]
}

/// Numbers for one command, used for whatever it carries.
type Numbers = (u8, u64, u64, u64, u64);

fn resources(amount: u64) -> Resources {
    Resources { cpu_millis: amount, memory_bytes: amount, disk_bytes: amount }
}

fn extreme_spec(a: u64, b: u64, c: u64) -> ServiceSpec {
    let mut some = spec(&format!("s{}", a % 3), 2);
    if b.is_multiple_of(2) {
        return ServiceSpec { reservations: resources(c % 3), ..some };
    }
    some.mode = Mode::Replicated { replicas: c as u32 };
    (some.reservations, some.limits, some.stop_grace_ms) = (resources(b), resources(c), b);
    some.ports = vec![Port { host_port: b as u16, container_port: c as u16, protocol: Protocol::Udp }];
    some.restart = RestartPolicy {
        max_attempts: Some(c as u32),
        delay_ms: b,
        max_delay_ms: c,
        stable_after_ms: b,
        ..RestartPolicy::default()
    };
    some.placement.max_per_node = c as u32;
    some.health = Some(HealthCheck {
        probe: HealthProbe::Tcp { port: c as u16 },
        interval_ms: b,
        timeout_ms: c,
        start_period_ms: b,
        retries: c as u32,
    });
    some
}

fn extreme_inventory(a: u64, b: u64) -> Inventory {
    Inventory {
        total: resources(a),
        images: vec![ImageInfo { reference: "registry.example/app:1".into(), size_bytes: b }],
        disk_free_bytes: b,
        ..roomy()
    }
}

fn extreme_step(state: &State, (what, a, b, c, d): Numbers) -> Step {
    let some = state.tasks().nth((a % 4) as usize);
    let (task, seen_version) = some.map_or((TaskId::from_random(a), c), |task| (task.id, task.version));
    let service = ServiceId::from_random(a % 3);
    let version = state.service(service).map_or(c, |service| service.version);
    match what % 6 {
        0 => Step::Assign { task, seen_version, node: NodeId::from_random(b) },
        1 => Step::Explain { task, seen_version, error: String::new() },
        2 => Step::Desire { task, seen_version, desired: Desired::Stopped, cause: Cause::Drain },
        3 => Step::Forget { task, seen_version },
        4 => Step::ForgetService { service, seen_version: version },
        _ => Step::CreateTask(NewTask {
            id: TaskId::from_random(b),
            service,
            seen_version: version,
            slot: c as u32,
            previous: state.slot(service, c as u32).last().copied(),
            attempt: d as u32,
            failures: d as u32,
            not_before_ms: d,
            cause: Cause::User,
            node: Some(NodeId::from_random(1)),
        }),
    }
}

/// Tasks that a worker reports, some of them invented.
fn known(state: &State, a: u64, b: u64, c: u64) -> Vec<KnownTask> {
    let versions = |service: ServiceId| state.service(service).map_or(c, |service| service.spec_version);
    let task = |number: u64, attempt: u64| {
        let service = ServiceId::from_random(a % 3);
        let spec_version = if b.is_multiple_of(2) { versions(service) } else { c };
        let (slot, attempt) = ((number % 3) as u32, attempt as u32);
        KnownTask {
            task: TaskId::from_random(number.wrapping_add(1_000)),
            origin: Some(Origin { service, slot, attempt, spec_version, fencing_token: b }),
            state: if a.is_multiple_of(2) { TaskState::Running } else { TaskState::Complete },
            container_id: None,
            at_ms: c,
        }
    };
    vec![task(a, b), task(a.wrapping_add(1), c), task(b, a)]
}

fn action(state: &State, numbers: Numbers) -> Action {
    let (what, a, b, c, d) = numbers;
    let (node, service) = (NodeId::from_random(a % 3), ServiceId::from_random(a % 3));
    let report = |task, own_state, exit: u64, at_ms| TaskReport {
        exit_code: Some(exit as i32),
        ..report_of(task, own_state, at_ms)
    };
    match what % 24 {
        0 | 1 => Action::CreateService { id: service, spec: Box::new(extreme_spec(a, b, c)) },
        2 => Action::UpdateService { id: service, seen_version: None, spec: Box::new(extreme_spec(a, b, c)) },
        3 => Action::ScaleService { id: service, replicas: b as u32 },
        4 => Action::RemoveService { id: service },
        5 | 6 => Action::RegisterNode {
            node,
            name: format!("w{}", a % 3),
            address: "here".into(),
            labels: BTreeMap::new(),
            inventory: extreme_inventory(b, c),
            running: state.tasks().map(|task| task.id).collect(),
        },
        7 => Action::UpdateInventory { node, inventory: extreme_inventory(b, c) },
        8 | 9 => Action::TakeStock { node, known: known(state, b, c, d) },
        10 => Action::Freeze { for_ms: b },
        11 if b.is_multiple_of(2) => Action::StopFreeze,
        11 => Action::EndFreeze { seen_version: b },
        12 => Action::DrainNode { node, within_ms: b },
        13 => Action::SetAvailability { node, availability: Availability::Active },
        14 => {
            let seen_version = state.node(node).map_or(b, |node| node.version);
            let state = if b.is_multiple_of(2) { NodeState::Down } else { NodeState::Disconnected };
            Action::SetNodeState { node, seen_version, state }
        }
        15 => Action::RestoreServices {
            changes: vec![ServiceChange {
                id: service,
                seen_version: state.service(service).map_or(0, |service| service.version),
                spec: (!b.is_multiple_of(3)).then(|| Box::new(extreme_spec(a, c, d))),
            }],
        },
        16 => Action::SettleRestore { seen_version: state.restored().map_or(b, |restored| restored.version) },
        17 => Action::SetManager { id: b, standing: Standing::Learner },
        18 => Action::AddManager { name: format!("m{}", a % 5), address: format!("10.0.0.{}:7700", a % 250 + 1) },
        19 => Action::InitCluster { id: ClusterId::from_random(b) },
        20..=22 => {
            let reports = state.tasks_of_node(node).enumerate().map(|(at, task)| {
                let states = [TaskState::Running, TaskState::Failed, TaskState::Complete];
                report(task.id, states[(at + b as usize % 3) % 3], c, d)
            });
            Action::ReportTasks { node, reports: reports.collect() }
        }
        _ => Action::Plan { steps: vec![extreme_step(state, (a as u8, b, c, d, a))] },
    }
}

fn apply(state: &mut State, planner: &mut Planner, now_ms: u64, action: Action) -> Outcome {
    let at = At { index: state.applied_index() + 1, term: 1 };
    let (outcome, changes) = state.apply(at, &Command { now_ms, request: None, action }, &mut Vec::new());
    planner.observe(state, &changes);
    outcome
}

/// The rows of a snapshot, over which workers say what they have.
fn restored(leader: &Leader, leap: u64) -> State {
    let mut state = leader.reload();
    let id = state.first_free_manager();
    let action = Action::Refound { id, name: "new".into(), address: "10.0.0.200:7700".into(), leap };
    let outcome = apply(&mut state, &mut Planner::default(), leader.now_ms, action);
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_number_from_outside_makes_a_command_or_a_plan_panic(
        commands in prop::collection::vec((any::<u8>(), number(), number(), number(), number()), 1..60),
        leap in prop_oneof![Just(1_000_000_u64), number()],
        clocks in prop::collection::vec(number(), 1..4),
        is_first in prop::bool::weighted(0.2),
    ) {
        let policy = Policy::default();
        let mut leader = if is_first { Leader::of_the_first_format(policy) } else { Leader::new() };
        leader.nodes(2);
        leader.service(1, spec("s1", 2));
        leader.work();
        let mut state = restored(&leader, leap);
        let mut planner = Planner::new(&state, policy);
        for (at, numbers) in commands.into_iter().enumerate() {
            let made = action(&state, numbers);
            // All managers' clocks but a few are right.
            let now_ms = if at % 16 == 9 { clocks[at % clocks.len()] } else { leader.now_ms };
            apply(&mut state, &mut planner, now_ms, made);
            if numbers.0 % 3 == 0 {
                let plan = planner.plan(&state, now_ms, numbers.1);
                let _ = plan.to_string();
                apply(&mut state, &mut planner, plan.at_ms, Action::Plan { steps: plan.steps });
            }
        }
        for now_ms in [0, leader.now_ms, u64::MAX] {
            let _ = Planner::new(&state, policy).plan(&state, now_ms, 1);
        }
        let rows = state.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
        prop_assert_eq!(State::from_rows(rows).expect("its own rows").hash(), state.hash());
        prop_assert!(state.format() <= FORMAT);
    }
}

/// The planner of this leader, and of every later one, would end there.
#[test]
fn an_attempt_that_a_worker_makes_up_does_not_end_the_planner() {
    for attempt in [u32::MAX, u32::MAX - 1] {
        let mut leader = Leader::new();
        let node = leader.nodes(1)[0];
        let web = leader.service(1, spec("web", 1));
        let mut state = restored(&leader, 1_000_000);
        let mut planner = Planner::new(&state, Policy::default());
        let spec_version = state.service(web).expect("it is there").spec_version;
        let origin = Origin { service: web, slot: 1, attempt, spec_version, fencing_token: 500 };
        let task = TaskId::from_random(77);
        let known = KnownTask { task, origin: Some(origin), state: TaskState::Running, container_id: None, at_ms: 1 };
        apply(&mut state, &mut planner, 1, Action::TakeStock { node, known: vec![known] });
        assert!(state.task(task).is_some(), "it is taken in");
        let seen_version = state.restored().expect("it is not settled").version;
        apply(&mut state, &mut planner, 1, Action::SettleRestore { seen_version });
        for round in 1..=8 {
            let newest = state.slot(web, 1).last().copied().expect("the slot has a task");
            let reports = vec![report_of(newest, TaskState::Failed, 1)];
            apply(&mut state, &mut planner, 1, Action::ReportTasks { node, reports });
            // Whatever it waits for is over.
            let now_ms = 1_000_000_000 * round;
            while planner.has_work(now_ms) {
                let plan = planner.plan(&state, now_ms, 1);
                apply(&mut state, &mut planner, now_ms, Action::Plan { steps: plan.steps });
            }
        }
        let newest = state.slot(web, 1).last().copied().expect("the slot has a task");
        let failures = state.task(newest).map_or(0, |task| task.failures);
        assert!(newest != task && failures >= 3, "{failures} attempts follow {attempt}");
    }
}
