//! Requests that are repeated: answered as the first time, and for how long.

use goat_core::codec::FORMAT;
use goat_core::model::{RequestId, ServiceId};
use goat_core::state::command::{Action, Command, Outcome};
use goat_core::state::{At, REQUESTS_REMEMBERED, REQUESTS_REMEMBERED_BYTES, REQUESTS_REMEMBERED_MS, State};

use crate::support::spec;

const MOST: u64 = REQUESTS_REMEMBERED as u64;

struct Requests {
    state: State,
    now_ms: u64,
    /// Rows that the last command deleted.
    deleted: usize,
}

impl Requests {
    fn new(format: u8) -> Self {
        let mut requests = Self { state: State::new(), now_ms: 1_000_000, deleted: 0 };
        requests.apply(None, Action::SetFormat { format });
        requests
    }

    fn apply(&mut self, request: Option<u64>, action: Action) -> Outcome {
        let (at, mut rows) = (At { index: self.state.applied_index() + 1, term: 1 }, Vec::new());
        let command = Command { now_ms: self.now_ms, request: request.map(RequestId::from_random), action };
        let (outcome, _) = self.state.apply(at, &command, &mut rows);
        self.deleted = rows.iter().filter(|row| row.value.is_none()).count();
        outcome
    }

    fn create(&mut self, request: u64) -> Outcome {
        let id = ServiceId::from_random(self.state.applied_index());
        self.apply(Some(request), Action::CreateService { id, spec: Box::new(spec("web", 1)) })
    }

    /// A request of somebody else.
    fn other(&mut self, request: u64) {
        let nobodys = ServiceId::from_random(u64::MAX);
        let outcome = self.apply(Some(request), Action::ScaleService { id: nobodys, replicas: 1 });
        assert!(matches!(outcome, Outcome::Refused(_)));
    }

    fn remembered(&self) -> u64 {
        let is_request = |row: &goat_core::state::change::RowChange| row.key[0] == 6;
        self.state.rows().iter().filter(|row| is_request(row)).count() as u64
    }

    fn reload(&mut self) {
        let rows = self.state.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
        self.state = State::from_rows(rows).expect("its own rows");
    }
}

#[test]
fn under_the_first_format_only_the_last_twenty_thousand_are_remembered() {
    let mut requests = Requests::new(1);
    let mut other = |number| {
        requests.other(number);
        requests.deleted
    };
    assert_eq!((1..=MOST).map(&mut other).sum::<usize>(), 0);
    assert_eq!(other(MOST + 1), 1, "the oldest row is deleted");
    assert_eq!(requests.remembered(), MOST);
}

#[test]
fn a_request_is_answered_again_however_many_came_in_between() {
    let mut requests = Requests::new(FORMAT);
    let first = requests.create(1);
    assert!(matches!(first, Outcome::Done(_)));
    for number in 2..=2 * MOST {
        requests.other(number);
    }
    requests.reload();
    requests.now_ms += REQUESTS_REMEMBERED_MS - 1;
    assert_eq!(requests.create(1), first);
    assert_eq!(requests.remembered(), 2 * MOST);
    // From here on it is too old, and each later one has some of the old ones forgotten, but never many at once.
    requests.now_ms += 1;
    let mut most_deleted = 0;
    for number in 1..=MOST {
        requests.other(2 * MOST + number);
        most_deleted = most_deleted.max(requests.deleted);
    }
    assert!((2..=16).contains(&most_deleted), "{most_deleted} at once");
    assert_eq!(requests.remembered(), MOST);
    assert!(matches!(requests.create(1), Outcome::Refused(_)), "its name is taken");
}

#[test]
fn what_requests_take_is_bounded_and_the_latest_are_remembered() {
    let mut requests = Requests::new(FORMAT);
    // More than fit: a row has 20 bytes at least, and takes 160 besides.
    let many = REQUESTS_REMEMBERED_BYTES as u64 / 180;
    for number in 1..=many {
        requests.other(number);
    }
    let kept = requests.remembered();
    assert!((100_000..many).contains(&kept), "{kept} of {many}");
    requests.reload();
    requests.other(many + 1);
    assert_eq!((requests.remembered(), requests.deleted), (kept, 1));
    let first_kept = many + 2 - kept;
    let is_remembered = |number| requests.state.remembered(RequestId::from_random(number)).is_some();
    assert!(is_remembered(first_kept) && !is_remembered(first_kept - 1));
}
