//! A cluster of simulated machines under a leader with the real planner and the real leases.
//!
//! Machines crash, links break, messages are late, clocks run wrong, leaders change, people drain, scale, update and
//! remove. After every command the checker judges the state, and at every moment the machines themselves are asked: a
//! slot of a leased service must never have two live processes in the world, whatever managers believe. Then everything
//! is healed, and the cluster must come to rest with every slot as it should be.
//!
//! A run is its seed; `GOAT_SIM_SEED=n` runs that one, `GOAT_SIM_RUNS=n` so many.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::lease::{LeaderLeases, LeasePolicy, WorkerLease};
use goat_core::model::{
    Availability, Desired, NodeId, NodeState, OnDisconnect, RestartCondition, ServiceId, ServiceSpec, TaskId, TaskState,
};
use goat_core::state::command::{Action, TaskReport};

use crate::support::{Leader, Random, needing, report_of, roomy, spec, tcp};

const TICK_MS: u64 = 50;
const CHAOS_MS: u64 = 60_000;
/// From healing to rest: a full lease, the longest backoff and some rolling update have room in it.
const REST_MS: u64 = 240_000;
const MAX_DELAY_MS: u64 = 4_000;

#[derive(Debug, Clone)]
struct Assignment {
    task: TaskId,
    service: ServiceId,
    slot: u32,
    is_leased: bool,
    is_wanted: bool,
    is_new: bool,
}

#[derive(Debug)]
struct Process {
    service: ServiceId,
    slot: u32,
    is_leased: bool,
    state: TaskState,
    /// Real time at which it is gone, and as what.
    ends: Option<(u64, TaskState)>,
}

impl Process {
    fn is_alive(&self) -> bool {
        !self.state.is_terminal()
    }
}

#[derive(Debug)]
struct Machine {
    id: NodeId,
    number: u64,
    is_up: bool,
    is_linked: bool,
    /// Its clock's rate and offset.
    rate_ppm: u64,
    offset_ms: u64,
    lease: WorkerLease,
    sends_at_ms: u64,
    processes: BTreeMap<TaskId, Process>,
}

impl Machine {
    fn clock_ms(&self, real_ms: u64) -> u64 {
        self.offset_ms + real_ms * self.rate_ppm / 1_000_000
    }
}

#[derive(Debug)]
enum Message {
    Heartbeat {
        from: usize,
        leader: u64,
        sent_ms: u64,
        reports: Vec<TaskReport>,
    },
    Granted {
        to: usize,
        sent_ms: u64,
        assignments: Vec<Assignment>,
    },
}

struct World {
    random: Random,
    leader: Leader,
    leases: LeaderLeases,
    policy: LeasePolicy,
    leader_number: u64,
    leader_rate_ppm: u64,
    real_ms: u64,
    machines: Vec<Machine>,
    /// By arrival, then by a running number.
    post: BTreeMap<(u64, u64), Message>,
    posted: u64,
    services: u64,
    is_healed: bool,
}

/// A clock that is wrong by at most rho.
fn some_rate(random: &mut Random, policy: &LeasePolicy) -> u64 {
    1_000_000 - policy.rate_error_ppm + random.below(2 * policy.rate_error_ppm + 1)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let policy = LeasePolicy {
            rate_error_ppm: 20_000,
            ..LeasePolicy::default()
        };
        let machines = (0..3 + random.below(8)).map(|at| Machine {
            id: NodeId::from_random(at + 1),
            number: at + 1,
            is_up: true,
            is_linked: true,
            rate_ppm: some_rate(&mut random, &policy),
            offset_ms: random.below(1 << 40),
            lease: WorkerLease {
                sent_ms: 0,
                ttl_ms: policy.lease_ttl_ms,
            },
            sends_at_ms: random.below(policy.heartbeat_ms),
            processes: BTreeMap::new(),
        });
        let machines = machines.collect();
        let leader = Leader::new();
        let leases = LeaderLeases::new(policy, 0, []);
        let leader_rate_ppm = some_rate(&mut random, &policy);
        let (post, is_healed) = (BTreeMap::new(), false);
        Self {
            random,
            leader,
            leases,
            policy,
            leader_number: 1,
            leader_rate_ppm,
            real_ms: 0,
            machines,
            post,
            posted: 0,
            services: 0,
            is_healed,
        }
    }

    /// The leader's monotonic clock.
    fn leader_ms(&self) -> u64 {
        self.real_ms * self.leader_rate_ppm / 1_000_000
    }

    fn send(&mut self, message: Message) {
        let most = if self.is_healed || !self.random.once_in(10) {
            20
        } else {
            MAX_DELAY_MS
        };
        let arrives_ms = self.real_ms + 1 + self.random.below(most);
        self.posted += 1;
        self.post.insert((arrives_ms, self.posted), message);
    }

    fn tick(&mut self) {
        self.real_ms += TICK_MS;
        self.leader.now_ms = 1_000_000 + self.real_ms;
        if !self.is_healed {
            self.mischief();
        }
        for at in 0..self.machines.len() {
            self.run_machine(at);
        }
        while let Some(entry) = self.post.first_entry().filter(|entry| entry.key().0 <= self.real_ms) {
            let message = entry.remove();
            self.deliver(message);
        }
        self.expire_leases();
        self.plan();
        self.assert_no_leased_slot_runs_twice();
    }

    // The machines.

    fn run_machine(&mut self, at: usize) {
        let real_ms = self.real_ms;
        let kill_ms = self.policy.kill_ms;
        let machine = &mut self.machines[at];
        if !machine.is_up {
            return;
        }
        let lease_is_over = machine.lease.is_expired(machine.clock_ms(real_ms));
        for process in machine.processes.values_mut().filter(|process| process.is_alive()) {
            if lease_is_over && process.is_leased {
                // Seen up to a tick late, which is part of K.
                let latest_ms = real_ms + self.random.below(kill_ms - TICK_MS);
                process.ends = Some(
                    process
                        .ends
                        .map_or((latest_ms, TaskState::Stopped), |ends| ends.min((latest_ms, ends.1))),
                );
            }
            advance(process, &mut self.random, real_ms, self.is_healed);
        }
        let (is_due, is_linked) = (real_ms >= machine.sends_at_ms, machine.is_linked);
        if is_due {
            machine.sends_at_ms = real_ms + self.policy.heartbeat_ms;
            let sent_ms = machine.clock_ms(real_ms);
            let reports = machine
                .processes
                .iter()
                .map(|(task, process)| report_of(*task, process.state, sent_ms))
                .collect();
            if is_linked {
                self.send(Message::Heartbeat {
                    from: at,
                    leader: self.leader_number,
                    sent_ms,
                    reports,
                });
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Heartbeat {
                from,
                leader,
                sent_ms,
                reports,
            } => {
                // What was sent to a leader that has gone is lost with it.
                if leader == self.leader_number {
                    self.grant(from, sent_ms, reports);
                }
            }
            Message::Granted {
                to,
                sent_ms,
                assignments,
            } => {
                let machine = &self.machines[to];
                if machine.is_up && machine.is_linked {
                    self.take(to, sent_ms, assignments);
                }
            }
        }
    }

    fn grant(&mut self, from: usize, sent_ms: u64, reports: Vec<TaskReport>) {
        let (node, number) = (self.machines[from].id, self.machines[from].number);
        if self
            .leader
            .state
            .node(node)
            .is_none_or(|row| row.state != NodeState::Ready)
        {
            self.leader.node(number, roomy());
        }
        self.leases.granted(node, self.leader_ms());
        self.leader.done(Action::ReportTasks { node, reports });
        let state = &self.leader.state;
        let assignment = |task: &goat_core::model::Task| Assignment {
            task: task.id,
            service: task.service,
            slot: task.slot,
            is_leased: state.spec_of(task).is_some_and(|spec| spec.on_disconnect().is_leased()),
            is_wanted: task.desired == Desired::Running,
            is_new: task.state == TaskState::Assigned,
        };
        let assignments = state
            .tasks_of_node(node)
            .filter(|task| !task.state.is_terminal())
            .map(assignment)
            .collect();
        self.send(Message::Granted {
            to: from,
            sent_ms,
            assignments,
        });
    }

    /// The rules of a worker: nothing leased is started after the lease; what it does not know and should is gone.
    fn take(&mut self, at: usize, sent_ms: u64, assignments: Vec<Assignment>) {
        let real_ms = self.real_ms;
        let machine = &mut self.machines[at];
        // An answer that was overtaken by a later one says nothing any more.
        if sent_ms < machine.lease.sent_ms {
            return;
        }
        machine.lease.renewed(sent_ms);
        if machine.lease.is_expired(machine.clock_ms(real_ms)) {
            return;
        }
        let told: BTreeSet<TaskId> = assignments.iter().map(|assignment| assignment.task).collect();
        machine
            .processes
            .retain(|task, process| process.is_alive() || told.contains(task));
        for (task, process) in &mut machine.processes {
            let is_wanted = assignments
                .iter()
                .any(|assignment| assignment.task == *task && assignment.is_wanted);
            if !is_wanted && process.is_alive() && process.ends.is_none() {
                process.ends = Some((real_ms + self.random.below(2_000), TaskState::Stopped));
            }
        }
        for assignment in assignments {
            let Assignment {
                task,
                service,
                slot,
                is_leased,
                is_wanted,
                is_new,
            } = assignment;
            let state = match (is_wanted, is_new) {
                (true, true) if self.random.once_in(12) && !self.is_healed => TaskState::Rejected,
                (true, true) => TaskState::Preparing,
                (true, false) => TaskState::Failed,
                (false, _) => TaskState::Stopped,
            };
            let process = Process {
                service,
                slot,
                is_leased,
                state,
                ends: None,
            };
            machine.processes.entry(task).or_insert(process);
        }
    }

    // The leader.

    fn expire_leases(&mut self) {
        let state = &self.leader.state;
        let is_leased = |node: NodeId| {
            let holding = state.tasks_of_node(node).filter(|task| task.holds_resources());
            holding
                .filter_map(|task| state.spec_of(task))
                .any(|spec| spec.on_disconnect().is_leased())
        };
        let now_ms = self.leader_ms();
        for (node, told) in self.leases.due(now_ms, is_leased) {
            self.leader.set_state(node, told);
        }
    }

    /// Plans as a manager does: when there is work, and sometimes something comes between plan and proposal.
    fn plan(&mut self) {
        for _ in 0..50 {
            if !self.leader.planner.has_work(self.leader.now_ms) {
                return;
            }
            let plan = self.leader.plan();
            if !self.is_healed && self.random.once_in(8) {
                self.user();
            }
            if !plan.is_empty() {
                self.leader.carry_out(plan);
            }
        }
        panic!("the planner goes round in circles: {}", self.leader.plan());
    }

    fn change_leader(&mut self) {
        self.leader_number += 1;
        self.leader_rate_ppm = some_rate(&mut self.random, &self.policy);
        self.leader.elect();
        let known = self.leader.state.nodes().map(|node| (node.id, node.state));
        self.leases = LeaderLeases::new(self.policy, self.leader_ms(), known);
    }

    // What goes wrong, and what people do.

    fn mischief(&mut self) {
        if !self.random.once_in(12) {
            return;
        }
        let at = self.random.below(self.machines.len() as u64) as usize;
        match self.random.below(8) {
            0 => self.change_leader(),
            1 => self.crash(at),
            2 | 3 => self.boot(at),
            4 => self.machines[at].is_linked = false,
            5 => self.machines[at].is_linked = true,
            _ => self.user(),
        }
    }

    fn crash(&mut self, at: usize) {
        self.machines[at].is_up = false;
        self.machines[at].processes.clear();
    }

    fn boot(&mut self, at: usize) {
        self.machines[at].is_up = true;
    }

    fn user(&mut self) {
        let nodes: Vec<NodeId> = self.leader.state.nodes().map(|node| node.id).collect();
        let services: Vec<ServiceId> = self.leader.state.services().map(|service| service.id).collect();
        let (node, service) = (self.random.pick(&nodes), self.random.pick(&services));
        let replicas = self.random.below(6) as u32;
        match (self.random.below(9), node, service) {
            (0, Some(node), _) => self.try_out(Action::SetAvailability {
                node,
                availability: Availability::Drain,
            }),
            (1 | 2, Some(node), _) => self.try_out(Action::SetAvailability {
                node,
                availability: Availability::Active,
            }),
            (3, Some(node), _) => {
                if matches!(
                    self.leader.apply(Action::RemoveNode { node }),
                    goat_core::state::command::Outcome::Done(_)
                ) {
                    self.leases.forget(node);
                }
            }
            (4, _, Some(id)) => self.try_out(Action::ScaleService { id, replicas }),
            (5, _, Some(id)) if self.random.once_in(3) => self.try_out(Action::RemoveService { id }),
            (6, _, Some(id)) => self.update(id),
            (7 | 8, ..) if services.len() < 5 => self.create(replicas),
            _ => {}
        }
    }

    /// Refused or not, the checker has judged.
    fn try_out(&mut self, action: Action) {
        self.leader.apply(action);
    }

    fn create(&mut self, replicas: u32) {
        self.services += 1;
        let mut wanted = spec(&format!("s{}", self.services), replicas);
        wanted.reservations = needing(50 + self.random.below(100), 0);
        let leased = self
            .random
            .pick(&[OnDisconnect::Keep, OnDisconnect::Stop, OnDisconnect::StopIfIsolated]);
        // Said outright: the default follows the count, and workers learn of a change only with their next grant.
        wanted.on_disconnect = leased;
        wanted.restart.delay_ms = 200;
        wanted.restart.max_delay_ms = 2_000;
        if self.random.once_in(3) {
            wanted.restart.condition = RestartCondition::OnFailure;
        }
        if self.random.once_in(4) {
            wanted.ports = vec![tcp(7_000 + self.random.below(2) as u16)];
        }
        let id = ServiceId::from_random(self.services);
        self.try_out(Action::CreateService {
            id,
            spec: Box::new(wanted),
        });
    }

    fn update(&mut self, id: ServiceId) {
        let Some(service) = self.leader.state.service(id) else {
            return;
        };
        let image = format!("registry.example/app:{}", self.random.below(3));
        let spec = ServiceSpec {
            image,
            ..(*service.spec).clone()
        };
        self.try_out(Action::UpdateService {
            id,
            seen_version: None,
            spec: Box::new(spec),
        });
    }

    fn heal(&mut self) {
        self.is_healed = true;
        for at in 0..self.machines.len() {
            self.boot(at);
            self.machines[at].is_linked = true;
        }
        let nodes: Vec<NodeId> = self.leader.state.nodes().map(|node| node.id).collect();
        for node in nodes {
            self.try_out(Action::SetAvailability {
                node,
                availability: Availability::Active,
            });
        }
    }

    // What must hold.

    fn assert_no_leased_slot_runs_twice(&self) {
        let mut live: BTreeMap<(ServiceId, u32), Vec<(u64, TaskId)>> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.is_up) {
            for (task, process) in machine
                .processes
                .iter()
                .filter(|(_, process)| process.is_alive() && process.is_leased)
            {
                live.entry((process.service, process.slot))
                    .or_default()
                    .push((machine.number, *task));
            }
        }
        for ((service, slot), processes) in live {
            assert!(
                processes.len() < 2,
                "at {} ms slot {service}.{slot} runs twice: {processes:?}",
                self.real_ms
            );
        }
    }

    /// Each slot runs, rests for good or cannot be placed, in the state and in the world.
    fn is_at_rest(&self) -> bool {
        let state = &self.leader.state;
        let is_right = |slot: u32, id: ServiceId| {
            let Some(task) = state.slot(id, slot).last().and_then(|task| state.task(*task)) else {
                return false;
            };
            match task.state {
                TaskState::Running => task.desired == Desired::Running && self.is_in_the_world(task.id),
                TaskState::Complete => state
                    .spec_of(task)
                    .is_some_and(|spec| spec.restart.condition != RestartCondition::Always),
                // Only ports can be short here.
                TaskState::Pending => !task.ports.is_empty() && task.error.is_some(),
                _ => false,
            }
        };
        !self.leader.planner.has_work(self.leader.now_ms)
            && state.nodes().all(|node| node.state == NodeState::Ready)
            && state.services().all(|service| {
                let wanted = service.spec.replicas();
                // An update goes on only when everything runs, so it waits for ports that are short.
                let is_short = state
                    .tasks_of_service(service.id)
                    .any(|task| task.state == TaskState::Pending);
                !service.removed
                    && (is_short || !state.is_updating(service.id))
                    && state.slots(service.id).count() == wanted as usize
                    && (1..=wanted).all(|slot| is_right(slot, service.id))
            })
    }

    fn is_in_the_world(&self, task: TaskId) -> bool {
        let of = |machine: &Machine| {
            machine
                .processes
                .get(&task)
                .is_some_and(|process| process.state == TaskState::Running)
        };
        self.machines.iter().filter(|machine| of(machine)).count() == 1
    }
}

/// A live process goes its way: forward, to its end, or down by itself.
fn advance(process: &mut Process, random: &mut Random, real_ms: u64, is_healed: bool) {
    if let Some((at_ms, state)) = process.ends {
        if at_ms <= real_ms {
            process.state = state;
        }
        return;
    }
    process.state = match process.state {
        TaskState::Preparing if random.once_in(4) => TaskState::Starting,
        TaskState::Starting if random.once_in(4) => TaskState::Running,
        _ if is_healed => process.state,
        TaskState::Preparing | TaskState::Starting if random.once_in(60) => TaskState::Failed,
        TaskState::Running if random.once_in(500) => TaskState::Failed,
        TaskState::Running if random.once_in(1_000) => TaskState::Complete,
        state => state,
    };
}

fn run(seed: u64) {
    // Shown when the test fails.
    println!("GOAT_SIM_SEED={seed}");
    let mut world = World::new(seed);
    world.create(3);
    while world.real_ms < CHAOS_MS {
        world.tick();
    }
    world.heal();
    let until_ms = world.real_ms + REST_MS;
    while !world.is_at_rest() {
        world.tick();
        if world.real_ms >= until_ms {
            let pictures: Vec<_> = world
                .leader
                .state
                .services()
                .map(|service| world.leader.picture(service.id))
                .collect();
            let planner = &mut world.leader.planner;
            let (has_work, now_ms) = (planner.has_work(world.leader.now_ms), world.leader.now_ms);
            world.leader.elect();
            panic!(
                "no rest after {REST_MS} ms: {pictures:?}; work: {has_work}; a new leader at {now_ms}: {}",
                world.leader.plan()
            );
        }
    }
    world.leader.assert_settled();
    assert_eq!(world.leader.reload().hash(), world.leader.state.hash());
}

#[test]
fn whatever_fails_no_leased_slot_runs_twice_and_after_healing_everything_comes_to_rest() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse::<u64>().ok())
    };
    match number("GOAT_SIM_SEED") {
        Some(seed) => run(seed),
        None => (0..number("GOAT_SIM_RUNS").unwrap_or(40)).for_each(run),
    }
}
