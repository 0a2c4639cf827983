//! What an agent does with its hands: starts, stops, watches, writes down, reports and forgets tasks.

use goat_core::model::{TaskId, TaskState};
use goat_core::scheduler::mix;
use goat_core::state::command::TaskReport;

use super::plan::Step;
use super::{Doing, Known, Work};
use crate::world::World;

/// How long a task's image takes, its start, and its life; the same for the same task, whatever else happens.
fn fate(seed: u64, task: TaskId, what: u64) -> u64 {
    mix(seed ^ mix(task.bits() ^ what))
}

const NEVER_MS: u64 = 1 << 50;

impl World {
    /// Everything that is due on a machine's tasks.
    pub(super) fn work(&mut self, at: usize) {
        self.tasks_go_on(at);
        for step in self.machines[at].steps(self.now_ms) {
            match step {
                Step::Start(task) => self.start_task(at, task),
                Step::Stop { task, grace_ms, is_lease_over } => self.stop_task(at, task, grace_ms, is_lease_over),
                Step::Decline(task) => self.decline(at, task),
                Step::Forget(task) => {
                    let machine = &mut self.machines[at];
                    let was_begun = machine.works.remove(&task).is_some_and(|work| work.journal.is_some());
                    machine.gone.insert(task, was_begun);
                }
            }
        }
    }

    fn new_work(&mut self, at: usize, task: TaskId, state: TaskState, doing: Doing) {
        let now_ms = self.now_ms;
        let machine = &mut self.machines[at];
        let Some(told) = machine.agent.as_ref().and_then(|agent| agent.assigned.as_ref()?.get(&task)) else { return };
        let known = Known { state, doing, next_ms: now_ms, at_ms: now_ms };
        let work = Work {
            service: told.service,
            slot: told.slot,
            on_disconnect: told.on_disconnect,
            stop_grace_ms: told.stop_grace_ms,
            has_health: told.has_health,
            is_alive: false,
            has_container: false,
            ends: None,
            overslept_until_ms: 0,
            exit: None,
            journal: None,
            known: Some(known),
        };
        machine.works.insert(task, work);
    }

    fn start_task(&mut self, at: usize, task: TaskId) {
        if self.machines[at].works.get(&task).is_some_and(|work| work.is_alive) {
            return self.fail(format!("w{at} begins {task}, which runs there already"));
        }
        if self.machines[at].gone.contains_key(&task) {
            self.coverage.count("tasks that had ended here before");
            self.new_work(at, task, TaskState::Rejected, Doing::Nothing);
            return self.report(at, task, Some("ended-here-before"));
        }
        let fate = fate(self.script.shape.seed, task, 1);
        if !self.is_healed && fate.is_multiple_of(40) {
            self.new_work(at, task, TaskState::Rejected, Doing::Nothing);
            return self.report(at, task, Some("no-runtime"));
        }
        self.new_work(at, task, TaskState::Preparing, Doing::Running);
        let takes_ms = 20 + fate % 600;
        if let Some(known) = self.machines[at].works.get_mut(&task).and_then(|work| work.known.as_mut()) {
            known.next_ms = self.now_ms + takes_ms;
        }
        self.report(at, task, None);
    }

    fn decline(&mut self, at: usize, task: TaskId) {
        // Not written down: it would be answered in the same way again.
        self.new_work(at, task, TaskState::Stopped, Doing::Nothing);
        self.report(at, task, Some("stop-requested"));
    }

    fn stop_task(&mut self, at: usize, task: TaskId, grace_ms: u64, is_lease_over: bool) {
        if is_lease_over {
            self.coverage.count("lease ends by the agent");
        }
        let (machine, now_ms) = (&mut self.machines[at], self.now_ms);
        let takes_ms = 1 + machine.random.below(grace_ms.max(1));
        let Some(work) = machine.works.get_mut(&task) else { return };
        let Some(known) = &mut work.known else { return };
        known.doing = Doing::Stopping { grace_ms };
        if work.is_alive {
            let ends_ms = work.ends.map_or(now_ms + takes_ms, |(at_ms, _)| at_ms.min(now_ms + takes_ms));
            work.ends = Some((ends_ms, TaskState::Stopped));
            known.next_ms = ends_ms;
        } else {
            known.next_ms = now_ms;
        }
    }

    fn tasks_go_on(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let is_due = |work: &Work| {
            work.known.as_ref().is_some_and(|known| {
                !known.state.is_terminal() && (known.next_ms <= now_ms || (work.exit.is_some() && !work.is_alive))
            })
        };
        let machine = &self.machines[at];
        let due: Vec<TaskId> = machine.works.iter().filter(|(_, work)| is_due(work)).map(|(task, _)| *task).collect();
        for task in due {
            self.task_goes_on(at, task);
        }
    }

    /// One task's next state.
    fn task_goes_on(&mut self, at: usize, task: TaskId) {
        let Some(work) = self.machines[at].works.get_mut(&task) else { return };
        let Some(known) = &mut work.known else { return };
        let is_stopping = matches!(known.doing, Doing::Stopping { .. });
        if let Some(state) = work.exit {
            return self.end_task(at, task, state, None);
        }
        match known.state {
            _ if is_stopping && !work.is_alive => self.end_task(at, task, TaskState::Stopped, Some("stop-requested")),
            TaskState::Preparing => self.launch(at, task),
            TaskState::Starting if work.is_alive => {
                known.next_ms = NEVER_MS;
                self.is_ready(at, task);
            }
            // It was started, and is gone: nobody saw how.
            TaskState::Starting => self.end_task(at, task, TaskState::Failed, Some("container-lost")),
            _ => {
                known.next_ms = work.ends.map_or(NEVER_MS, |(at_ms, _)| at_ms);
            }
        }
    }

    /// The image is there: the container is made and started, if it still may.
    fn launch(&mut self, at: usize, task: TaskId) {
        let (seed, now_ms, is_healed) = (self.script.shape.seed, self.now_ms, self.is_healed);
        let machine = &mut self.machines[at];
        let Some(work) = machine.works.get(&task) else { return };
        // Looked at once more, right before.
        if work.on_disconnect.is_leased() && !machine.allows(work.on_disconnect, now_ms) {
            return self.end_task(at, task, TaskState::Stopped, Some("lease-expired"));
        }
        let start = fate(seed, task, 2);
        if !is_healed && start.is_multiple_of(30) {
            let reasons = ["image-pull-failed", "registry-unreachable", "disk-full", "runtime-down"];
            let reason = reasons[(start / 30 % 4) as usize];
            self.coverage.count("tasks failed");
            return self.end_task(at, task, TaskState::Failed, Some(reason));
        }
        let life = fate(seed, task, 3);
        let ends = match life % 8 {
            _ if is_healed => None,
            0 => Some((now_ms + 50 + life / 8 % 3_000, TaskState::Failed)),
            1 => Some((now_ms + 2_000 + life / 8 % 40_000, TaskState::Failed)),
            2 => Some((now_ms + 500 + life / 8 % 30_000, TaskState::Complete)),
            _ => None,
        };
        let Some(work) = self.machines[at].works.get_mut(&task) else { return };
        (work.is_alive, work.has_container, work.ends) = (true, true, ends);
        work.journal = Some(TaskState::Starting);
        let waits_ms = if work.has_health { 50 + start / 7 % 1_500 } else { 0 };
        let Some(known) = &mut work.known else { return };
        (known.state, known.at_ms, known.next_ms) = (TaskState::Starting, now_ms, now_ms + waits_ms);
        self.judge_start(at, task);
        if waits_ms == 0 {
            self.is_ready(at, task);
        } else {
            self.report(at, task, None);
        }
    }

    fn is_ready(&mut self, at: usize, task: TaskId) {
        let (now_ms, seed) = (self.now_ms, self.script.shape.seed);
        let is_healed = self.is_healed;
        let Some(work) = self.machines[at].works.get_mut(&task) else { return };
        let Some(known) = &mut work.known else { return };
        if work.has_health && !is_healed && fate(seed, task, 4).is_multiple_of(20) {
            // It never becomes healthy: it is stopped, and has failed.
            known.doing = Doing::Stopping { grace_ms: 100 };
            work.ends = Some((now_ms + 100, TaskState::Failed));
            known.next_ms = now_ms + 100;
            return;
        }
        work.journal = Some(TaskState::Running);
        known.next_ms = work.ends.map_or(NEVER_MS, |(at_ms, _)| at_ms);
        (known.state, known.at_ms) = (TaskState::Running, now_ms);
        self.report(at, task, None);
    }

    fn end_task(&mut self, at: usize, task: TaskId, state: TaskState, reason: Option<&'static str>) {
        let now_ms = self.now_ms;
        let Some(work) = self.machines[at].works.get_mut(&task) else { return };
        let Some(known) = &mut work.known else { return };
        if state == TaskState::Failed && reason.is_none() {
            self.coverage.count("tasks failed");
        }
        (known.state, known.doing, known.at_ms) = (state, Doing::Nothing, now_ms);
        work.journal = Some(state);
        self.report(at, task, reason);
    }

    fn report(&mut self, at: usize, task: TaskId, reason: Option<&'static str>) {
        let machine = &mut self.machines[at];
        let Some(report) = machine.works.get(&task).and_then(|work| work.report(task, reason)) else { return };
        if let Some(agent) = &mut machine.agent {
            agent.outbox.push(report);
        }
    }
}

impl Work {
    pub(super) fn report(&self, task: TaskId, reason: Option<&str>) -> Option<TaskReport> {
        let known = self.known.as_ref()?;
        let exit_code = match known.state {
            TaskState::Complete => Some(0),
            TaskState::Failed => Some(1),
            TaskState::Stopped => Some(143),
            _ => None,
        };
        Some(TaskReport {
            task,
            state: known.state,
            exit_code,
            reason: reason.map(str::to_owned),
            error: None,
            container_id: self.has_container.then(|| format!("c-{task}")),
            at_ms: crate::world::EPOCH_MS + known.at_ms,
        })
    }
}
