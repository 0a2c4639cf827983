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
    /// Its task runs on a node that the service's placement excludes.
    Misplaced,
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
    /// How many of its tasks failed since the change.
    pub failures: usize,
}

impl Slot {
    fn empty(number: u32) -> Self {
        let stage = Stage::Moving;
        Self { number, stage, state: "pending".into(), node: String::new(), problem: String::new(), failures: 0 }
    }

    /// Whether its task serves, whatever is to become of it.
    fn serves(&self) -> bool {
        self.state == "running" && self.stage != Stage::Moving
    }
}

/// One look at a service.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub name: String,
    pub desired: u32,
    pub slots: Vec<Slot>,
    /// Tasks that are still there and no longer wanted.
    pub leftover: usize,
    /// All is as it should be, and what was started has to stay so for a while.
    pub is_watched: bool,
}

impl View {
    /// Slots that are as they should be.
    pub fn settled(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Running | Stage::Done)).count()
    }

    /// `2 of 3 running, 1 pending`. Tasks that are to be replaced or moved run until then, and count.
    pub fn summary(&self) -> String {
        let done = self.slots.iter().filter(|slot| slot.stage == Stage::Done).count();
        let word = if done > 0 && done == self.settled() { "complete" } else { "running" };
        let serving = self.slots.iter().filter(|slot| slot.serves()).count();
        let mut text = format!("{} of {} {word}", serving + done, self.desired);
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in &self.slots {
            match slot.stage {
                Stage::Running | Stage::Done => {}
                Stage::Outdated => *others.entry("to be replaced").or_default() += 1,
                Stage::Misplaced => *others.entry("to be moved").or_default() += 1,
                // It was asked to stop.
                _ if slot.state == "running" => *others.entry("stopping").or_default() += 1,
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

/// Sorts what a look has shown. `changed_at`: the log index of the change that is waited for.
pub fn view(service: &v1::Service, tasks: &[v1::Task], changed_at: u64) -> View {
    let desired = service.replicas_desired;
    let mut by_slot: BTreeMap<u32, Vec<&v1::Task>> = (1..=desired).map(|slot| (slot, vec![])).collect();
    for task in tasks {
        by_slot.entry(task.slot).or_default().push(task);
    }
    for tasks in by_slot.values_mut() {
        tasks.sort_by_key(|task| task.attempt);
    }
    stand_in(service, desired, &mut by_slot);
    let newest_ids: BTreeSet<&str> = by_slot.values().filter_map(|tasks| Some(tasks.last()?.id.as_str())).collect();
    let is_leftover = |task: &&v1::Task| !has_ended_state(&task.state) && !newest_ids.contains(task.id.as_str());
    let leftover = tasks.iter().filter(is_leftover).count();
    let slots = by_slot.into_iter().map(|(number, tasks)| slot(service, number, &tasks, changed_at)).collect();
    View { name: name_of(service).to_owned(), desired, slots, leftover, is_watched: false }
}

/// After the count was lowered, tasks in slots above it are kept if they run in the place of slots that hold none. Leaves
/// as many slots as are desired.
fn stand_in(service: &v1::Service, desired: u32, by_slot: &mut BTreeMap<u32, Vec<&v1::Task>>) {
    let is_empty = |tasks: &[&v1::Task]| tasks.last().is_none_or(|newest| newest.desired == "removed");
    let stays = |tasks: &[&v1::Task]| {
        let is_kept = |newest: &&v1::Task| {
            newest.desired == "running" && (!has_ended_state(&newest.state) || stage(service, newest) == Stage::Done)
        };
        tasks.last().is_some_and(is_kept)
    };
    let above = by_slot.split_off(&desired.saturating_add(1));
    for (number, tasks) in above.into_iter().filter(|(_, tasks)| stays(tasks)) {
        let free = by_slot.iter().find(|(slot, tasks)| **slot <= desired && is_empty(tasks)).map(|(slot, _)| *slot);
        if let Some(free) = free {
            by_slot.remove(&free);
            by_slot.insert(number, tasks);
        }
    }
}

fn slot(service: &v1::Service, number: u32, tasks: &[&v1::Task], changed_at: u64) -> Slot {
    let Some(task) = tasks.last() else { return Slot::empty(number) };
    let stage = stage(service, task);
    let own = match stage {
        Stage::Misplaced => format!("waits for {}", task.waits_for),
        _ => problem(task),
    };
    // A slot that waits says why its last task failed.
    let failed = tasks.iter().rev().skip(1).take(1).find(|before| has_failed(&before.state));
    let problem = match failed.filter(|_| own.is_empty() && !matches!(stage, Stage::Running | Stage::Done)) {
        Some(before) => problem(before),
        None => own,
    };
    let failures = tasks.iter().filter(|task| task.fencing_token > changed_at && is_failure(service, task)).count();
    Slot { number, stage, state: task.state.clone(), node: task.node.clone(), problem, failures }
}

/// Whether a task ended otherwise than it should have: it failed, or it completed and is to run for ever.
pub fn is_failure(service: &v1::Service, task: &v1::Task) -> bool {
    has_failed(&task.state) || (task.state == "complete" && stage(service, task) != Stage::Done)
}

fn has_failed(state: &str) -> bool {
    matches!(state, "failed" | "rejected")
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
        "running" if task.misplaced => Stage::Misplaced,
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
