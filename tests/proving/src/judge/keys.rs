//! The history of each service by itself is linearizable, by a checker that knows nothing of logs and indexes. A request
//! with all its attempts is one operation: from the first attempt to the first answer.

use std::collections::{BTreeMap, HashMap};

use goat_proto::v1;

use super::Findings;
use crate::linear::service::{Call as Step, Service, State};
use crate::linear::{Operation, Verdict, check};
use crate::op::{Answer, Call, Op};
use crate::workload::VALUE;

/// Steps of one search: some seconds.
const BUDGET: usize = 1_000_000;

/// How many histories of one service were decided, and how many were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decided {
    pub services: usize,
    pub undecided: usize,
}

/// Judges each service's history by itself.
pub fn judge(ops: &[Op], findings: &mut Findings) -> Decided {
    let mut decided = Decided::default();
    for (name, operations) in histories(ops) {
        match check(&Service, &operations, BUDGET) {
            Verdict::Linearizable => decided.services += 1,
            Verdict::Undecided => decided.undecided += 1,
            Verdict::Violated => {
                let told: Vec<_> = operations.iter().map(told).collect();
                findings.add(format!("{name} has no order that explains its answers:\n  {}", told.join("\n  ")));
            }
        }
    }
    decided
}

fn told(operation: &Operation<Step>) -> String {
    let end = operation.returned.map_or_else(|| "...".into(), |us| us.to_string());
    format!("{}..{end} us: {:?}", operation.invoked, operation.call)
}

/// By service, what was asked of it and answered.
pub fn histories(ops: &[Op]) -> BTreeMap<String, Vec<Operation<Step>>> {
    let mut found: BTreeMap<String, Vec<Operation<Step>>> = BTreeMap::new();
    let mut attempts: HashMap<&str, Vec<&Op>> = HashMap::new();
    for op in ops {
        match (&op.request, &op.call) {
            (Some(request), _) => attempts.entry(request).or_default().push(op),
            (None, Call::Get { name, is_stale: false }) if !op.answer.is_unknown() => {
                let call = seen(&op.answer);
                let operation = Operation { invoked: op.invoked_us, returned: Some(op.answered_us), call };
                found.entry(name.clone()).or_default().push(operation);
            }
            _ => {}
        }
    }
    for attempts in attempts.into_values() {
        if let Some(operation) = whole(&attempts) {
            let name = attempts[0].call.name().unwrap_or_default();
            found.entry(name.to_owned()).or_default().push(operation);
        }
    }
    for operations in found.values_mut() {
        operations.sort_by_key(|operation| operation.invoked);
    }
    found
}

fn seen(answer: &Answer) -> Step {
    match answer {
        Answer::Service { service, .. } => {
            let value = value_of(service).to_owned();
            let replicas = service.replicas_desired;
            Step::Saw(if service.removed { State::Going { value, replicas } } else { State::Live { value, replicas } })
        }
        _ => Step::Saw(State::Absent),
    }
}

fn value_of(service: &v1::Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.env.get(VALUE)).map_or("", String::as_str)
}

/// What an acknowledgement counts for: a request is acknowledged once, and the first to come is the earliest it may end.
fn whole(attempts: &[&Op]) -> Option<Operation<Step>> {
    let invoked = attempts.iter().map(|op| op.invoked_us).min()?;
    let of_an_entry = |op: &&&Op| op.answer.is_of_an_entry();
    let answered = attempts.iter().filter(of_an_entry).min_by_key(|op| op.answered_us);
    let answered = answered.or_else(|| {
        // An attempt that was refused says nothing of another that may be on its way.
        let is_alone = attempts.iter().all(|op| !op.answer.is_unknown());
        attempts.iter().filter(|_| is_alone).min_by_key(|op| op.answered_us)
    });
    let asked = asked(&attempts[0].call)?;
    let Some(op) = answered else {
        return Some(Operation { invoked, returned: None, call: Step::Maybe(Box::new(asked)) });
    };
    let call = match &op.answer {
        Answer::Refused { code: tonic::Code::AlreadyExists, .. } => Step::Taken,
        Answer::Refused { code: tonic::Code::NotFound, .. } => Step::Missing,
        Answer::Refused { code: tonic::Code::FailedPrecondition, .. } => Step::BeingRemoved,
        Answer::Done { .. } => asked,
        // Nothing that the model knows.
        _ => return Some(Operation { invoked, returned: None, call: Step::Maybe(Box::new(asked)) }),
    };
    Some(Operation { invoked, returned: Some(op.answered_us), call })
}

fn asked(call: &Call) -> Option<Step> {
    match call.clone() {
        Call::Create { value, replicas, .. } => Some(Step::Create { value, replicas }),
        Call::Update { value, replicas, .. } => Some(Step::Update { value, replicas }),
        Call::Scale { replicas, .. } => Some(Step::Scale { replicas }),
        Call::Remove { .. } => Some(Step::Remove),
        Call::Get { .. } | Call::List { .. } => None,
    }
}
