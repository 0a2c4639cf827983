//! The judgement by replay: silent about what really happened, and loud about each single thing that is planted in it.

use goat_core::codec;
use goat_core::model::ServiceId;
use goat_core::state::command::{Action, Answer as Decided, Command, Outcome};
use goat_core::state::{At, State};
use goat_proto::convert;
use goat_proving::collected::{Collected, Disk, Rows};
use goat_proving::judge::{Findings, keys, replay};
use goat_proving::op::{Answer, Call, Op, Place};
use goat_proving::workload::spec;
use goat_raft_store::EntryId;

/// A log with what clients were told of it, and everything in it is right.
struct World {
    state: State,
    rows: Rows,
    log: Collected,
    ops: Vec<Op>,
    next: u64,
}

const SERVICE: u64 = 77;

fn request(number: u64) -> String {
    format!("{number:0>12}")
}

fn create(value: &str) -> (Call, Action) {
    let id = ServiceId::from_random(SERVICE);
    let spec = spec("web", value, 1).try_into().expect("it is a spec");
    let call = Call::Create { name: "web".into(), value: value.into(), replicas: 1 };
    (call, Action::CreateService { id, spec: Box::new(spec) })
}

fn scale(replicas: u32) -> (Call, Action) {
    let id = ServiceId::from_random(SERVICE);
    (Call::Scale { name: "web".into(), replicas }, Action::ScaleService { id, replicas })
}

impl World {
    fn new() -> Self {
        let (state, rows, log) = (State::new(), Rows::new(), Collected::default());
        let mut world = Self { state, rows, log, ops: Vec::new(), next: 0 };
        world.log.enter("m1", EntryId { term: 1, index: 0 }, None);
        world.next = 1;
        world
    }

    fn op(&mut self, request: Option<String>, call: Call, answer: Answer) {
        let at = self.next * 10;
        self.ops.push(Op { client: 0, at: 0, request, call, invoked_us: at, answered_us: at + 5, answer });
    }

    /// Applies it, and tells its client.
    fn write(&mut self, number: u64, (call, action): (Call, Action)) {
        let id = request(number);
        let command = Command { now_ms: 1_000, request: Some(id.parse().expect("an id")), action };
        let at = At { index: self.next, term: 1 };
        let mut changed = Vec::new();
        let (outcome, _) = self.state.apply(at, &command, &mut changed);
        for row in changed {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        self.log.enter("m1", EntryId { term: 1, index: at.index }, Some(codec::encode(&command)));
        let answer = match outcome {
            Outcome::Done(Decided::Service { id, version }) => {
                Answer::Done { id: id.to_string(), version, index: at.index }
            }
            Outcome::Refused(refusal) => Answer::Refused {
                code: tonic::Code::AlreadyExists,
                text: refusal.to_string(),
                place: Place::Log(at.index),
            },
            other => panic!("{other:?}"),
        };
        self.op(Some(id), call, answer);
        self.next += 1;
    }

    fn read(&mut self) {
        let index = self.next - 1;
        let shown: Vec<_> = self.state.services().map(|row| convert::service(row, 0)).collect();
        let get = Call::Get { name: "web".into(), is_stale: false };
        let answer = match shown.first() {
            Some(service) => Answer::Service { index, service: Box::new(service.clone()) },
            None => Answer::Refused { code: tonic::Code::NotFound, text: String::new(), place: Place::Read(index) },
        };
        self.op(None, get, answer);
        self.op(None, Call::List { is_stale: false }, Answer::Services { index, services: shown });
    }

    fn disk(&mut self) {
        let applied = EntryId { term: 1, index: self.next - 1 };
        self.log.disks.push(Disk { manager: "m2".into(), applied, rows: self.rows.clone() });
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Findings::default();
        replay::judge(&self.log, &self.ops, &mut findings);
        findings.violations
    }

    fn answer(&mut self, at: usize) -> &mut Answer {
        &mut self.ops[at].answer
    }
}

/// Attempts 0 and 1 read nothing, 2 creates, 3 and 4 read, 5 is refused, 6 scales, 7 and 8 read.
fn right() -> World {
    let mut world = World::new();
    world.read();
    world.write(1, create("a"));
    world.read();
    world.write(2, create("b"));
    world.write(3, scale(2));
    world.disk();
    world.read();
    world
}

fn assert_found(world: &World, words: &str) {
    let found = world.findings();
    assert!(found.iter().any(|text| text.contains(words)), "{words:?} is not among {found:#?}");
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let world = right();
    assert!(matches!(world.ops[5].answer, Answer::Refused { .. }));
    assert_eq!(world.findings(), Vec::<String>::new());
    let mut findings = Findings::default();
    assert_eq!(keys::judge(&world.ops, &mut findings).services, 1);
    assert_eq!(findings.violations, Vec::<String>::new());
}

#[test]
fn an_acknowledged_write_that_is_not_in_the_log_is_found() {
    let mut world = right();
    let last = world.next - 1;
    world.log.entries.remove(&last);
    world.log.disks.clear();
    assert_found(&world, "the committed log ends at 2, and this was answered");
    // Another took its place after a loss.
    let mut world = right();
    let other = world.log.entries[&1].clone();
    world.log.entries.insert(last, other);
    assert_found(&world, "another request is where this was answered");
    world.log.entries.insert(last, (2, None));
    assert_found(&world, "no command is where this was answered");
}

#[test]
fn an_answer_that_the_log_does_not_give_is_found() {
    let mut world = right();
    let Answer::Done { version, .. } = world.answer(2) else { panic!("it was created") };
    *version += 1;
    assert_found(&world, "the log gives another answer");
    let mut world = right();
    *world.answer(5) = Answer::Done { id: ServiceId::from_random(SERVICE).to_string(), version: 2, index: 2 };
    assert_found(&world, "the log gives another answer");
    let mut world = right();
    *world.answer(2) = Answer::Refused { code: tonic::Code::Internal, text: "?".into(), place: Place::Nowhere };
    assert_found(&world, "does not say where in the log it belongs");
}

#[test]
fn a_read_of_another_state_than_the_one_at_its_index_is_found() {
    // One field of one row; a row too few; what was read before under a later index.
    let mut world = right();
    let Answer::Service { service, .. } = world.answer(3) else { panic!("it is there") };
    service.replicas_desired += 1;
    assert_found(&world, "what was read is not what the log makes of it");
    let mut world = right();
    let Answer::Services { services, .. } = world.answer(4) else { panic!("it is a list") };
    services.clear();
    assert_found(&world, "what was read is not what the log makes of it");
    let mut world = right();
    let Answer::Services { index, .. } = world.answer(4) else { panic!("it is a list") };
    *index = 3;
    assert_found(&world, "what was read is not what the log makes of it");
    let mut world = right();
    let Answer::Refused { place, .. } = world.answer(0) else { panic!("it was not there") };
    *place = Place::Read(1);
    assert_found(&world, "what was read is not what the log makes of it");
}

#[test]
fn a_request_with_two_answers_is_found() {
    // Attempts of one request were told of two services.
    let mut world = right();
    let mut again = world.ops[2].clone();
    again.answer = Answer::Done { id: ServiceId::from_random(1).to_string(), version: 1, index: 1 };
    world.ops.push(again);
    assert_found(&world, "a request has another answer in the log");
    // A retry was told that there is nothing to be changed, after the change.
    let mut world = right();
    let mut again = world.ops[6].clone();
    again.answer = Answer::Refused { code: tonic::Code::NotFound, text: String::new(), place: Place::Read(3) };
    world.ops.push(again);
    assert_found(&world, "a request has another answer in the log");
}

#[test]
fn a_retry_in_the_log_is_no_second_effect() {
    let mut world = right();
    world.write(1, create("a"));
    assert_eq!(world.findings(), Vec::<String>::new());
}

#[test]
fn what_nobody_asked_for_and_what_was_asked_otherwise_is_found() {
    let mut world = right();
    world.ops.retain(|op| op.request != Some(request(3)));
    assert_found(&world, "nobody asked for what is at 3");
    let mut world = right();
    world.ops[6].call = Call::Scale { name: "web".into(), replicas: 9 };
    assert_found(&world, "and what was asked is");
}

#[test]
fn a_disk_with_other_rows_than_the_logs_is_found() {
    for change in [|rows: &mut Rows| drop(rows.pop_last()), |rows: &mut Rows| drop(rows.insert(vec![9], vec![9]))] {
        let mut world = right();
        change(&mut world.log.disks[0].rows);
        assert_found(&world, "the rows of m2 at T1.3 are not what the log makes of it");
    }
}

#[test]
fn a_log_of_which_two_managers_have_two_versions_is_found() {
    let mut world = right();
    world.log.enter("m3", EntryId { term: 2, index: 2 }, None);
    assert_found(&world, "m3 has committed entry T2.2");
}

#[test]
fn a_history_without_an_order_is_found_without_the_log() {
    let mut world = right();
    // What was read at first is read again at the end.
    let stale = world.ops[3].answer.clone();
    world.op(None, Call::Get { name: "web".into(), is_stale: false }, stale);
    let mut findings = Findings::default();
    assert_eq!(keys::judge(&world.ops, &mut findings).services, 0);
    assert!(findings.violations[0].contains("web has no order that explains its answers"), "{findings:?}");
}

#[test]
fn an_answer_that_never_came_may_be_either() {
    let mut world = right();
    *world.answer(6) = Answer::Unknown { why: "time".into() };
    assert_eq!(world.findings(), Vec::<String>::new());
    let mut findings = Findings::default();
    assert_eq!(keys::judge(&world.ops, &mut findings).services, 1);
}
