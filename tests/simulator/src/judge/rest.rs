//! What must have come to be once everything is mended: each acknowledged service as it should be, nothing left over,
//! every manager of one mind.

use goat_core::check::check_state;
use goat_core::model::{Desired, RestartCondition, TaskState};
use goat_core::orchestrator::Planner;
use goat_core::state::{Service, State};

use crate::world::World;

/// Without a command for so long.
const QUIET_MS: u64 = 1_200;

impl World {
    /// What is not at rest yet.
    pub(crate) fn unrest(&self) -> Option<String> {
        let state = self.truth();
        let leader = self.raft.leader;
        if self.managers[leader].leading.is_none() {
            return Some("nobody leads".into());
        }
        // Before what follows from it: while commands come, somebody is behind.
        if self.judge.quiet_since_ms + QUIET_MS > self.now_ms || self.is_planning() {
            let last = self.raft.log.last().map(|entry| format!("{:?}", entry.command.action));
            return Some(format!("commands still come, the last is {}", last.unwrap_or_default()));
        }
        if let Some(behind) = self.managers.iter().position(|own| own.is_up && own.applied < self.raft.log.len()) {
            return Some(format!("m{behind} has not applied everything"));
        }
        let members: Vec<String> = state.managers().filter(|row| row.is_member()).map(|row| row.name.clone()).collect();
        if members.len() != self.raft.voters.len() + self.raft.learners.len() {
            return Some(format!("managers {members:?}, and members {:?} {:?}", self.raft.voters, self.raft.learners));
        }
        state.services().find_map(|service| self.unrest_of(state, service)).or_else(|| self.left_over())
    }

    fn unrest_of(&self, state: &State, service: &Service) -> Option<String> {
        let name = &service.spec.name;
        let wanted = service.spec.replicas();
        // An update goes on only when everything runs, so it waits for room that is short.
        let is_short = state.tasks_of_service(service.id).any(|task| task.state == TaskState::Pending);
        if service.removed {
            return Some(format!("{name} is removed and still there"));
        }
        if state.slots(service.id).count() != wanted as usize {
            return Some(format!("{name} has {} slots where {wanted} are wanted", state.slots(service.id).count()));
        }
        // After the count was lowered, a task above it may stand in for an empty slot below.
        let slots: Vec<u32> = state.slots(service.id).map(|(slot, _)| slot).collect();
        let wrong = slots.iter().find_map(|slot| self.unrest_in_slot(state, service, *slot));
        let gave_up = |slot: &u32| {
            let newest = state.slot(service.id, *slot).last().and_then(|id| state.task(*id));
            newest.is_some_and(|task| task.state == TaskState::Failed)
        };
        let is_held = is_short || slots.iter().any(gave_up);
        wrong.or_else(|| (state.is_updating(service.id) && !is_held).then(|| format!("{name} is being updated")))
    }

    fn unrest_in_slot(&self, state: &State, service: &Service, slot: u32) -> Option<String> {
        let task = state.slot(service.id, slot).last().and_then(|task| state.task(*task));
        let told = || {
            let shown = task.map(|task| (task.id, task.state, task.desired, task.reason.clone(), task.error.clone()));
            Some(format!("{}.{slot} is {shown:?}", service.spec.name))
        };
        let Some(task) = task else { return told() };
        let restart = &state.spec_of(task)?.restart;
        let is_right = match task.state {
            TaskState::Running => {
                let on: Vec<_> = self.machines.iter().filter(|machine| machine.works.contains_key(&task.id)).collect();
                let is_there = on.len() == 1 && on[0].runs(&on[0].works[&task.id], self.now_ms);
                task.desired == Desired::Running && is_there
            }
            TaskState::Complete => {
                matches!(restart.condition, RestartCondition::OnFailure | RestartCondition::No)
            }
            // It was given up, as its policy says.
            TaskState::Failed => {
                restart.condition == RestartCondition::No
                    || restart.max_attempts.is_some_and(|most| task.failures >= most)
            }
            // Room is short, and that was said.
            TaskState::Pending => task.error.is_some(),
            _ => false,
        };
        if is_right { None } else { told() }
    }

    /// Something that runs, and managers know nothing of it or do not want it.
    fn left_over(&self) -> Option<String> {
        let state = self.truth();
        for machine in &self.machines {
            for (task, work) in machine.works.iter().filter(|(_, work)| work.is_alive) {
                let row = state.task(*task).filter(|row| !row.state.is_terminal() && row.desired == Desired::Running);
                if row.is_none() {
                    return Some(format!("w{} runs {task} of {}.{}", machine.at, work.service, work.slot));
                }
            }
        }
        None
    }

    /// At rest: what a state that long may not have any more.
    pub(crate) fn judge_the_end(&mut self) {
        let problems = check_state(self.truth());
        if let Some(problem) = problems.first() {
            return self.fail(format!("in the end: {problem}"));
        }
        let hash = self.truth().hash();
        for at in 0..self.managers.len() {
            let own = &self.managers[at];
            if !own.is_up {
                continue;
            }
            let reloaded = own.reloaded().map(|state| (state.hash(), check_state(&state)));
            let state_hash = own.state.hash();
            match reloaded {
                _ if state_hash != hash => return self.fail(format!("m{at} has another state than the log makes")),
                Ok((reloaded, problems)) if reloaded == hash && problems.is_empty() => {}
                Ok((_, problems)) => return self.fail(format!("m{at}'s rows make another state: {problems:?}")),
                Err(error) => return self.fail(format!("m{at}'s rows make no state: {error}")),
            }
        }
        let wall_ms = self.managers[self.raft.leader].wall_ms(self.now_ms);
        let state = self.truth();
        let policy =
            goat_core::orchestrator::Policy { history_per_slot: self.script.shape.history, ..Default::default() };
        let plan = Planner::new(state, policy).plan(state, wall_ms, 7);
        if !plan.is_empty() {
            let text = format!("a new leader would find something to do: {plan}");
            self.fail(text);
        }
        let lost = self.judge.acknowledged.iter().find(|id| !self.judge.requests.contains_key(id)).copied();
        if let Some(id) = lost {
            self.fail(format!("request {id} was acknowledged and is not in the log"));
        }
    }
}
