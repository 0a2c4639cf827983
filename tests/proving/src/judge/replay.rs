//! Replaying the committed log gives each answer: of every command at its own index, of every read the state at the index
//! that it names, to the last field. And what managers have on their disks is what the log makes.
//!
//! It applies commands with core's own `apply`: what that does wrongly everywhere is not seen here, but by [`super::keys`].

use std::collections::{BTreeMap, HashMap};

use goat_core::codec;
use goat_core::model::{RequestId, ServiceSpec};
use goat_core::state::command::{Action, Answer as Decided, Command, Outcome};
use goat_core::state::{At, Service, State};
use goat_proto::convert;

use super::Findings;
use crate::collected::{Collected, Disk, Rows};
use crate::op::{Answer, Call, Op, Place};
use crate::workload::VALUE;

/// Judges all attempts. Returns the last index of the log. A log with gaps cannot be replayed: see [`Collected::gap`].
pub fn judge(log: &Collected, ops: &[Op], findings: &mut Findings) -> u64 {
    judge_among_others(log, ops, &|_| false, findings)
}

/// The same where others have written too, who are no part of the history: to services whose names are `others`'.
pub fn judge_among_others(log: &Collected, ops: &[Op], others: &dyn Fn(&str) -> bool, findings: &mut Findings) -> u64 {
    for conflict in &log.conflicts {
        findings.add(conflict.clone());
    }
    let mut walk = Walk::of(ops, others, findings);
    for (index, (term, command)) in &log.entries {
        walk.entry(At { index: *index, term: *term }, command.as_deref());
        for disk in log.disks.iter().filter(|disk| disk.applied.index == *index) {
            walk.compare(disk);
        }
    }
    walk.end()
}

/// What became of a request the first time it was in the log.
struct First {
    index: u64,
    outcome: Outcome,
}

struct Walk<'a> {
    state: State,
    rows: Rows,
    last: u64,
    first: HashMap<RequestId, First>,
    /// Attempts by the index that their answers name, and by request.
    by_index: BTreeMap<u64, Vec<&'a Op>>,
    by_request: HashMap<RequestId, Vec<&'a Op>>,
    /// Whose services the history does not tell of.
    others: &'a dyn Fn(&str) -> bool,
    findings: &'a mut Findings,
}

impl<'a> Walk<'a> {
    fn of(ops: &'a [Op], others: &'a dyn Fn(&str) -> bool, findings: &'a mut Findings) -> Self {
        let (mut by_index, mut by_request) = (BTreeMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for op in ops {
            if let Some(index) = op.answer.index() {
                by_index.entry(index).or_default().push(op);
            } else if !op.answer.is_unknown() {
                findings.add(format!("a refusal that does not say where in the log it belongs: {op}"));
            }
            if let Some(request) = op.request.as_deref().and_then(|id| id.parse::<RequestId>().ok()) {
                by_request.entry(request).or_default().push(op);
            }
        }
        let (state, rows, first) = (State::new(), Rows::new(), HashMap::new());
        Self { state, rows, last: 0, first, by_index, by_request, others, findings }
    }

    fn entry(&mut self, at: At, command: Option<&[u8]>) {
        self.last = at.index;
        let command: Option<Command> = command.and_then(|bytes| {
            codec::decode("command", bytes)
                .map_err(|error| self.findings.add(format!("entry {} cannot be read: {error}", at.index)))
                .ok()
        });
        let outcome = command.as_ref().map(|command| self.apply(at, command));
        for op in self.by_index.remove(&at.index).unwrap_or_default() {
            let told = match &op.answer {
                Answer::Done { .. } | Answer::Refused { place: Place::Log(_), .. } => {
                    check_answer(op, command.as_ref().zip(outcome.as_ref()))
                }
                _ => self.check_read(op),
            };
            if let Err(wrong) = told {
                self.findings.add(format!("{wrong}: {op}"));
            }
        }
    }

    fn apply(&mut self, at: At, command: &Command) -> Outcome {
        let mut rows = Vec::new();
        // A removed one may be gone afterwards.
        let is_told = is_of_a_client(&command.action) && !self.is_of_others(&command.action);
        let (outcome, changes) = self.state.apply(at, command, &mut rows);
        for row in rows {
            match row.value {
                Some(value) => self.rows.insert(row.key, value),
                None => self.rows.remove(&row.key),
            };
        }
        let Some(request) = command.request else { return outcome };
        if let Some(first) = self.first.get(&request) {
            if !changes.is_empty() || first.outcome != outcome {
                self.findings
                    .add(format!("request {request} took effect at {} and again at {}", first.index, at.index));
            }
            return outcome;
        }
        self.first.insert(request, First { index: at.index, outcome: outcome.clone() });
        if is_told {
            match self.by_request.get(&request) {
                None => self.findings.add(format!("nobody asked for what is at {}: {command:?}", at.index)),
                Some(ops) if !is_as_asked(&ops[0].call, &command.action) => {
                    self.findings.add(format!("{command:?} is at {}, and what was asked is {}", at.index, ops[0]));
                }
                Some(_) => {}
            }
        }
        outcome
    }

    fn is_of_others(&self, action: &Action) -> bool {
        let name = match action {
            Action::CreateService { spec, .. } | Action::UpdateService { spec, .. } => Some(&spec.name),
            Action::ScaleService { id, .. } | Action::RemoveService { id } => {
                self.state.service(*id).map(|service| &service.spec.name)
            }
            _ => None,
        };
        name.is_some_and(|name| (self.others)(name))
    }

    fn check_read(&self, op: &Op) -> Result<(), &'static str> {
        let name = op.call.name().unwrap_or_default();
        let there = self.state.service_by_name(name);
        let shown = |row: &Service| convert::service(row, self.state.running(row.id));
        let is_right = match &op.answer {
            Answer::Services { services, .. } => services.iter().cloned().eq(self.state.services().map(shown)),
            Answer::Service { service, .. } => there.map(shown).as_ref() == Some(&**service),
            Answer::Refused { code, .. } => *code == tonic::Code::NotFound && there.is_none(),
            Answer::Done { .. } | Answer::Unknown { .. } => false,
        };
        is_right.then_some(()).ok_or("what was read is not what the log makes of it up to there")
    }

    fn compare(&mut self, disk: &Disk) {
        if disk.rows == self.rows {
            return;
        }
        let differs = |key: &&Vec<u8>| disk.rows.get(*key) != self.rows.get(*key);
        let keys = self.rows.keys().chain(disk.rows.keys().filter(|key| !self.rows.contains_key(*key)));
        let found: Vec<String> = keys.filter(differs).take(5).map(|key| format!("{key:02x?}")).collect();
        self.findings.add(format!(
            "the rows of {} at {} are not what the log makes of it: {}",
            disk.manager,
            disk.applied,
            found.join(", ")
        ));
    }

    fn end(mut self) -> u64 {
        for op in std::mem::take(&mut self.by_index).into_values().flatten() {
            self.findings.add(format!("the committed log ends at {}, and this was answered: {op}", self.last));
        }
        for (request, ops) in std::mem::take(&mut self.by_request) {
            self.check_request(request, &ops);
        }
        self.last
    }

    /// All answers to one request are one answer.
    fn check_request(&mut self, request: RequestId, ops: &[&Op]) {
        let first = self.first.get(&request);
        let is_certain = |op: &&&Op| !op.answer.is_unknown();
        for op in ops.iter().filter(is_certain) {
            let fits = match (&op.answer, first.map(|first| &first.outcome)) {
                (
                    Answer::Done { id, version, .. },
                    Some(Outcome::Done(Decided::Service { id: right, version: at })),
                ) => *id == right.to_string() && version == at,
                (Answer::Refused { place: Place::Log(_), .. }, Some(Outcome::Refused(_))) => true,
                // It was looked up before it was in the log, or it never was.
                (Answer::Refused { place: Place::Read(index), .. }, _) => {
                    first.is_none_or(|first| *index < first.index)
                }
                (Answer::Refused { place: Place::Nowhere, .. }, first) => first.is_none(),
                _ => false,
            };
            if !fits {
                let first = first.map(|first| (first.index, &first.outcome));
                self.findings.add(format!("a request has another answer in the log, {first:?}: {op}"));
            }
        }
    }
}

const fn is_of_a_client(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateService { .. }
            | Action::UpdateService { .. }
            | Action::ScaleService { .. }
            | Action::RemoveService { .. }
    )
}

fn is_as_asked(call: &Call, action: &Action) -> bool {
    let is = |spec: &ServiceSpec, name: &str, value: &str, replicas: u32| {
        spec.name == name && spec.env.get(VALUE).is_some_and(|found| found == value) && spec.replicas() == replicas
    };
    match (call, action) {
        (Call::Create { name, value, replicas }, Action::CreateService { spec, .. })
        | (Call::Update { name, value, replicas }, Action::UpdateService { spec, .. }) => {
            is(spec, name, value, *replicas)
        }
        (Call::Scale { replicas, .. }, Action::ScaleService { replicas: found, .. }) => replicas == found,
        (Call::Remove { .. }, Action::RemoveService { .. }) => true,
        _ => false,
    }
}

/// Whether the entry that the answer names gives that answer.
fn check_answer(op: &Op, entry: Option<(&Command, &Outcome)>) -> Result<(), &'static str> {
    let Some((command, outcome)) = entry else {
        return Err("no command is where this was answered");
    };
    if command.request.map(|id| id.to_string()) != op.request {
        return Err("another request is where this was answered");
    }
    let is_right = match (&op.answer, outcome) {
        (Answer::Done { id, version, .. }, Outcome::Done(Decided::Service { id: right, version: at })) => {
            *id == right.to_string() && version == at
        }
        (Answer::Refused { text, .. }, Outcome::Refused(refusal)) => *text == refusal.to_string(),
        _ => false,
    };
    is_right.then_some(()).ok_or("the log gives another answer")
}
