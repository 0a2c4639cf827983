//! What must never be, asked after every step; and what must have come to be in the end (`rest`).
//!
//! The judge keeps a state of its own that applies the log as it is committed, and remembers what no state does: every
//! fencing token that was given out, every task's last word, every request's first answer, every process in the world.

mod rest;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use goat_core::check::check_state;
use goat_core::model::{Cause, Desired, NodeState, OnDisconnect, RequestId, ServiceId, TaskId, TaskState};
use goat_core::state::change::{ChangeSet, TaskChange};
use goat_core::state::command::{Action, Answer, Outcome};
use goat_core::state::{At, State};

use crate::script::Weather;
use crate::world::{Committed, World};

/// The whole state is judged after each so many commands, drawn by lot; what a command has touched, after each.
const WHOLE: u64 = 6;

#[derive(Debug)]
pub(crate) struct Judge {
    pub truth: State,
    pub failure: Option<String>,
    pub is_over: bool,
    pub plans_in_a_row: u32,
    /// When the last command was committed.
    pub quiet_since_ms: u64,
    /// Each entry's outcome, by its index.
    outcomes: HashMap<u64, Outcome>,
    /// The first answer to each request.
    requests: BTreeMap<RequestId, Outcome>,
    /// Requests whose clients have heard that they took effect.
    pub acknowledged: BTreeSet<RequestId>,
    tokens: HashMap<(ServiceId, u32), u64>,
    last_words: HashMap<TaskId, (TaskState, Desired)>,
    /// Tasks whose process was started, ever.
    began: BTreeSet<TaskId>,
    /// What became of tasks, for a failure's text.
    story: Vec<(u64, TaskId, Option<TaskState>, Cause)>,
}

impl Judge {
    pub fn new() -> Self {
        Self {
            truth: State::new(),
            failure: None,
            is_over: false,
            plans_in_a_row: 0,
            quiet_since_ms: 0,
            outcomes: HashMap::new(),
            requests: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            tokens: HashMap::new(),
            last_words: HashMap::new(),
            began: BTreeSet::new(),
            story: Vec::new(),
        }
    }
}

impl World {
    /// An entry is committed: the truth goes on by it.
    pub(crate) fn committed(&mut self, entry: &Committed) {
        self.judge.quiet_since_ms = self.now_ms;
        let at = At { index: entry.index, term: entry.term };
        let (outcome, changes) = self.judge.truth.apply(at, &entry.command, &mut Vec::new());
        self.count(&entry.command.action, &outcome, &changes);
        if !matches!(entry.command.action, Action::Plan { .. }) {
            self.judge.plans_in_a_row = 0;
        }
        let problem = self.judge_request(entry, &outcome, &changes).or_else(|| self.judge_changes(&changes));
        self.judge.outcomes.insert(entry.index, outcome);
        let problem = problem.or_else(|| {
            let is_whole = self.random.once_in(WHOLE);
            let found = if is_whole { check_state(&self.judge.truth) } else { Vec::new() };
            found.first().map(ToString::to_string)
        });
        if let Some(problem) = problem {
            self.fail(format!("{problem}, after {:?}", entry.command));
        }
    }

    /// Of a repeated request nothing may come but its first answer.
    fn judge_request(&mut self, entry: &Committed, outcome: &Outcome, changes: &ChangeSet) -> Option<String> {
        let id = entry.command.request?;
        let Some(first) = self.judge.requests.get(&id) else {
            self.judge.requests.insert(id, outcome.clone());
            return None;
        };
        self.coverage.count("requests answered from memory");
        if !changes.is_empty() {
            return Some(format!("request {id} took effect twice"));
        }
        (first != outcome).then(|| format!("request {id} was answered with {first:?}, and then with {outcome:?}"))
    }

    fn judge_changes(&mut self, changes: &ChangeSet) -> Option<String> {
        changes.tasks.iter().find_map(|change| self.judge_change(change))
    }

    fn judge_change(&mut self, change: &TaskChange) -> Option<String> {
        self.judge.story.push((self.now_ms, change.task, change.to, change.cause));
        let (id, Some(to)) = (change.task, change.to) else {
            let last = self.judge.last_words.get(&change.task);
            let is_live = last.is_some_and(|(state, _)| !state.is_terminal());
            return is_live.then(|| format!("task {} was forgotten alive", change.task));
        };
        let before = self.judge.last_words.insert(id, (to, change.desired));
        if before.map(|(state, _)| state) != change.from {
            return Some(format!("task {id} was {before:?}, and is said to have been {:?}", change.from));
        }
        if let Some((state, desired)) = before {
            let is_taken_back = state == TaskState::Lost && to == TaskState::Running && change.cause == Cause::NodeBack;
            if to < state && !is_taken_back || desired > change.desired {
                return Some(format!("task {id} went back from {state:?} {desired:?} to {to:?} {:?}", change.desired));
            }
            if state.is_terminal() && to != state && !is_taken_back {
                return Some(format!("task {id} ended as {state:?} and then as {to:?}"));
            }
        }
        let task = self.judge.truth.task(id)?;
        let begins = to == TaskState::Assigned && before.is_none_or(|(state, _)| state != TaskState::Assigned);
        if begins {
            let last = self.judge.tokens.insert((task.service, task.slot), task.fencing_token).unwrap_or(0);
            if task.fencing_token <= last {
                return Some(format!("task {id} was given the token {} after {last}", task.fencing_token));
            }
        }
        None
    }

    /// Every manager comes to the same.
    pub(crate) fn agrees(&mut self, manager: usize, entry: &Committed, outcome: &Outcome) {
        if self.judge.outcomes.get(&entry.index) != Some(outcome) {
            let truth = self.judge.outcomes.get(&entry.index);
            self.fail(format!("m{manager} applies {} and gets {outcome:?}, where others get {truth:?}", entry.index));
        }
    }

    /// What a client is told has to be in the log.
    pub(crate) fn judge_answer(&mut self, id: RequestId, index: u64, outcome: &Outcome) {
        if self.judge.outcomes.get(&index) != Some(outcome) {
            self.fail(format!("request {id} was answered with {outcome:?}, which is not what the log has at {index}"));
        }
        if self.judge.requests.get(&id).is_some_and(|first| first != outcome) {
            self.fail(format!("request {id} was answered in two ways, the second being {outcome:?}"));
        }
    }

    /// A process begins. Whatever managers believe: a slot of a leased service must not have two in the world.
    pub(crate) fn judge_start(&mut self, at: usize, task: TaskId) {
        let Some(work) = self.machines[at].works.get(&task) else { return };
        let (service, slot) = (work.service, work.slot);
        if !self.judge.began.insert(task) {
            return self.fail(format!("w{at} begins {task} a second time; {}", self.story_of(task)));
        }
        let Some(work) = self.machines[at].works.get(&task) else { return };
        let is_bound = match work.on_disconnect {
            OnDisconnect::Keep => false,
            OnDisconnect::Stop => true,
            OnDisconnect::StopIfIsolated => self.script.shape.weather != Weather::Wild,
        };
        if !is_bound {
            return;
        }
        let now_ms = self.now_ms;
        let live = |machine: &crate::worker::Machine| {
            let of_slot = machine.works.iter().filter(|(_, work)| (work.service, work.slot) == (service, slot));
            of_slot.filter(|(_, work)| machine.runs(work, now_ms)).map(|(task, _)| (machine.at, *task)).collect()
        };
        let all: Vec<(usize, TaskId)> = self.machines.iter().flat_map(|machine| -> Vec<_> { live(machine) }).collect();
        if all.len() > 1 {
            let told = |(at, task): &(usize, TaskId)| format!("{task} on w{at} ({})", self.story_of(*task));
            let text: Vec<String> = all.iter().map(told).collect();
            self.fail(format!("slot {service}.{slot} runs more than once: {}", text.join("; ")));
        }
    }

    fn story_of(&self, task: TaskId) -> String {
        let own = self.judge.story.iter().filter(|(_, id, ..)| *id == task);
        let told = own.map(|(at_ms, _, to, cause)| match to {
            Some(to) => format!("{at_ms} {} ({})", to.as_str(), cause.as_str()),
            None => format!("{at_ms} forgotten"),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    fn count(&mut self, action: &Action, outcome: &Outcome, changes: &ChangeSet) {
        self.coverage.count("commands");
        match (action, outcome) {
            (Action::ReportTasks { .. }, Outcome::Done(Answer::Reported(counts))) => {
                self.coverage.add("reports without news", u64::from(counts.stale + counts.unknown));
            }
            (Action::StopFreeze, Outcome::Done(_)) => self.coverage.count("freezes stopped"),
            (Action::EndFreeze { .. }, Outcome::Done(_)) => self.coverage.count("freezes ended"),
            (_, Outcome::Refused(_)) => self.coverage.count("commands refused"),
            _ => {}
        }
        for change in &changes.tasks {
            match (change.from, change.to) {
                (Some(TaskState::Lost), Some(TaskState::Running)) => self.coverage.count("tasks taken back"),
                (from, Some(TaskState::Lost)) if from != Some(TaskState::Lost) => {
                    self.coverage.count("tasks lost");
                    let is_fenced = self.judge.truth.task(change.task).is_some_and(|task| task.fenced);
                    self.coverage.add("tasks fenced", u64::from(is_fenced));
                }
                _ => {}
            }
        }
        let is_down = |state: Option<NodeState>| state == Some(NodeState::Down);
        let gone = changes.nodes.iter().filter(|change| is_down(change.from) && change.to.is_none()).count();
        self.coverage.add("node rows removed", gone as u64);
    }
}
