//! A service's tasks, slot by slot: what each slot is up to, and what is wrong with it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::TaskState;
use goat_proto::convert::word;
use goat_proto::v1;

use crate::cmd::task::problem;
use crate::rows::name_of;

/// What one slot is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has no task yet, or its task is on its way.
    Moving,
    Running,
    /// It has run to its end, and is to rest.
    Done,
    /// No node fits.
    Stuck,
    /// Its task has ended, and another may follow.
    Ended,
    /// Its task runs what the service ran before.
    Outdated,
}

/// One slot as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub number: u32,
    pub stage: Stage,
    /// The newest task's.
    pub state: String,
    pub node: String,
    /// What is wrong with it, or was with the task before.
    pub problem: String,
}

/// One look at a service.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub name: String,
    pub desired: u32,
    pub slots: Vec<Slot>,
    /// Tasks that are still there and no longer wanted.
    pub leftover: usize,
}

impl View {
    /// Slots that are as they should be.
    pub fn settled(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Running | Stage::Done)).count()
    }

    /// `2 of 3 running, 1 pending`.
    pub fn summary(&self) -> String {
        let done = self.slots.iter().filter(|slot| slot.stage == Stage::Done).count();
        let word = if done > 0 && done == self.settled() { "complete" } else { "running" };
        let mut text = format!("{} of {} {word}", self.settled(), self.desired);
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in &self.slots {
            match slot.stage {
                Stage::Running | Stage::Done => {}
                Stage::Outdated => *others.entry("to be replaced").or_default() += 1,
                _ => *others.entry(&slot.state).or_default() += 1,
            }
        }
        for (state, count) in others {
            text.push_str(&format!(", {count} {state}"));
        }
        if self.leftover > 0 {
            text.push_str(&format!(", {} more to stop", self.leftover));
        }
        text
    }

    /// The distinct problems of slots at a stage, with how many have each.
    pub fn problems(&self, stage: Stage) -> String {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.stage == stage) {
            *counted.entry(&slot.problem).or_default() += 1;
        }
        let lines = counted.into_iter().map(|(problem, count)| match count {
            1 => format!("\n  {problem}"),
            _ => format!("\n  {problem} ({count} tasks)"),
        });
        lines.collect()
    }
}

/// Sorts what a look has shown.
pub fn view(service: &v1::Service, tasks: &[v1::Task]) -> View {
    let desired = service.replicas_desired;
    let mut by_slot: BTreeMap<u32, Vec<&v1::Task>> = (1..=desired).map(|slot| (slot, vec![])).collect();
    for task in tasks {
        by_slot.entry(task.slot).or_default().push(task);
    }
    let mut newest_ids = BTreeSet::new();
    let mut slots = Vec::with_capacity(desired as usize);
    for (number, mut tasks) in by_slot {
        tasks.sort_by_key(|task| task.attempt);
        if number > desired {
            continue;
        }
        let newest = tasks.last().copied();
        newest_ids.extend(newest.map(|task| task.id.as_str()));
        let before = tasks.len().checked_sub(2).map(|at| tasks[at]);
        slots.push(slot(service, number, newest, before));
    }
    let is_leftover = |task: &&v1::Task| !has_ended_state(&task.state) && !newest_ids.contains(task.id.as_str());
    let leftover = tasks.iter().filter(is_leftover).count();
    View { name: name_of(service).to_owned(), desired, slots, leftover }
}

fn slot(service: &v1::Service, number: u32, newest: Option<&v1::Task>, before: Option<&v1::Task>) -> Slot {
    let Some(task) = newest else {
        return Slot {
            number,
            stage: Stage::Moving,
            state: "pending".into(),
            node: String::new(),
            problem: String::new(),
        };
    };
    let stage = stage(service, task);
    let own = problem(task);
    // A slot that waits says why its last task ended.
    let problem = match before.filter(|_| own.is_empty() && !matches!(stage, Stage::Running | Stage::Done)) {
        Some(before) => problem(before),
        None => own,
    };
    Slot { number, stage, state: task.state.clone(), node: task.node.clone(), problem }
}

fn stage(service: &v1::Service, task: &v1::Task) -> Stage {
    // A token is the log index of the assignment, a spec's version that of the change: what was assigned before it runs
    // the spec before it.
    let is_outdated = task.fencing_token > 0 && task.fencing_token <= service.spec_version;
    let restart = service.spec.as_ref().and_then(|spec| spec.restart.as_ref());
    let rests = restart.is_some_and(|restart| matches!(restart.condition.as_str(), "no" | "on-failure"));
    match task.state.as_str() {
        state if task.desired != "running" && !has_ended_state(state) => Stage::Moving,
        "running" | "complete" if is_outdated => Stage::Outdated,
        "running" => Stage::Running,
        "complete" if rests => Stage::Done,
        // A state that this build does not know is on its way somewhere.
        "failed" if rests && !is_outdated => Stage::Ended,
        "pending" if !task.error.is_empty() => Stage::Stuck,
        _ => Stage::Moving,
    }
}

/// Whether a task in this state cannot run any more. A state that this build does not know may.
pub fn has_ended_state(state: &str) -> bool {
    word::<TaskState>("state", state).is_ok_and(|state| state.is_terminal())
}
