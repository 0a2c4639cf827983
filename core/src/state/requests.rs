//! Answers that are remembered, so that a request which is repeated is answered and not carried out again.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::apply::Apply;
use super::command::Outcome;
use super::rows::request_key;
use super::{REQUESTS_REMEMBERED, REQUESTS_REMEMBERED_BYTES, REQUESTS_REMEMBERED_MS};
use crate::codec::{self, Versioned};
use crate::model::RequestId;

/// Memory that an answer takes besides the bytes of its row: its place in the table and in the order.
const ENTRY_BYTES: usize = 160;
/// Answers that are forgotten with one command because their time is over. More than one, so that there are fewer of them
/// after a time with many; bounded, so that none pays for all.
const FORGOTTEN_AT_ONCE: usize = 16;

/// A request's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub index: u64,
    pub outcome: Outcome,
    /// The state's clock (Unix ms); 0 for a request of the first format.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub at_ms: u64,
}

const fn is_unknown(at_ms: &u64) -> bool {
    *at_ms == 0
}

impl Versioned for Remembered {}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Requests {
    by_id: HashMap<RequestId, Remembered>,
    /// Oldest first, with what each takes (bytes).
    order: VecDeque<(u64, RequestId, usize)>,
    bytes: usize,
}

impl Requests {
    pub fn get(&self, id: RequestId) -> Option<&Outcome> {
        self.by_id.get(&id).map(|remembered| &remembered.outcome)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RequestId, &Remembered)> {
        self.by_id.iter()
    }

    /// `row_bytes`: the length of the row's value.
    pub fn insert(&mut self, id: RequestId, remembered: Remembered, row_bytes: usize) {
        let bytes = row_bytes.saturating_add(ENTRY_BYTES);
        self.order.push_back((remembered.index, id, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_id.insert(id, remembered);
    }

    /// After rows were inserted in no order.
    pub fn sort(&mut self) {
        self.order.make_contiguous().sort_unstable();
    }

    fn is_full(&self) -> bool {
        self.bytes > REQUESTS_REMEMBERED_BYTES
    }

    fn is_oldest_over(&self, now_ms: u64) -> bool {
        let oldest = self.order.front().and_then(|(_, id, _)| self.by_id.get(id));
        oldest.is_some_and(|oldest| now_ms.saturating_sub(oldest.at_ms) >= REQUESTS_REMEMBERED_MS)
    }

    fn forget_oldest(&mut self) -> Option<RequestId> {
        let (_, id, bytes) = self.order.pop_front()?;
        self.by_id.remove(&id);
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(id)
    }

    /// Takes out the next one to forget. `forgotten`: the number that were forgotten with this command.
    fn surplus(&mut self, is_by_time: bool, now_ms: u64, forgotten: usize) -> Option<RequestId> {
        let is_surplus = self.order.len() > REQUESTS_REMEMBERED;
        let is_over = match is_by_time {
            true => self.is_full() || (is_surplus && forgotten < FORGOTTEN_AT_ONCE && self.is_oldest_over(now_ms)),
            false => is_surplus,
        };
        if is_over { self.forget_oldest() } else { None }
    }
}

impl Apply<'_> {
    pub(super) fn remember(&mut self, request: RequestId, outcome: Outcome) {
        let is_by_time = self.state.is_bounded();
        let at_ms = if is_by_time { self.now_ms } else { 0 };
        let remembered = Remembered { index: self.at.index, outcome, at_ms };
        let row = codec::encode(&remembered);
        self.state.requests.insert(request, remembered, row.len());
        self.write(request_key(request), row);
        let mut forgotten = 0;
        while let Some(id) = self.state.requests.surplus(is_by_time, self.now_ms, forgotten) {
            self.delete(request_key(id));
            forgotten += 1;
        }
    }
}
