//! Lists in pages: no reply is larger than a message may be, and the state is not held for long to make one. Knows no rows.

use std::ops::Bound;

use prost::Message;
use tonic::Status;

/// A page ends with the row that makes it so large.
const PAGE_BYTES: usize = 1 << 20;

/// A page that is put together piece by piece, so that the state need not be held for all of it.
#[derive(Debug)]
pub(super) struct Page<M> {
    rows: Vec<M>,
    bytes: usize,
    /// Leads to what comes after the last row that was looked at.
    token: String,
    is_at_end: bool,
}

impl<M: Message> Page<M> {
    /// Begins with what `token` leads to.
    pub(super) const fn after(token: String) -> Self {
        Self { rows: Vec::new(), bytes: 0, token, is_at_end: false }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn push(&mut self, row: M) {
        self.bytes += row.encoded_len();
        self.rows.push(row);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= PAGE_BYTES
    }

    /// There is more to look at: `token` leads there.
    pub(super) fn pause(&mut self, token: String) {
        self.token = token;
    }

    /// There is nothing more to look at.
    pub(super) const fn end(&mut self) {
        self.is_at_end = true;
    }

    pub(super) const fn wants_more(&self) -> bool {
        !self.is_at_end && !self.is_full()
    }

    /// The rows, and what leads to the rest: empty if there is none.
    pub(super) fn finish(self) -> (Vec<M>, String) {
        let next = if self.is_at_end { String::new() } else { self.token };
        (self.rows, next)
    }
}

/// As many rows as fit on a page, and what leads to the rest: empty where there is none.
pub(super) fn page<R: Copy, M: Message>(
    rows: impl Iterator<Item = R>,
    show: impl Fn(R) -> M,
    token: impl Fn(R) -> String,
) -> (Vec<M>, String) {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    let mut rows = rows.peekable();
    while let Some(row) = rows.next() {
        let message = show(row);
        bytes += message.encoded_len();
        shown.push(message);
        if bytes >= PAGE_BYTES && rows.peek().is_some() {
            return (shown, token(row));
        }
    }
    (shown, String::new())
}

/// What comes after a page whose token is the id of its last row; everything for the empty one.
pub(super) fn after<I: std::str::FromStr>(token: &str) -> Result<(Bound<I>, Bound<I>), Status> {
    let from = match token {
        "" => Bound::Unbounded,
        id => Bound::Excluded(id.parse().map_err(|_| no_page(token))?),
    };
    Ok((from, Bound::Unbounded))
}

/// The token of a page of slots: the slot, and the attempt in it.
pub(super) fn slot_token((slot, attempt): (u32, u32)) -> String {
    format!("{slot}.{attempt}")
}

/// What [`slot_token`] wrote; the beginning for the empty one.
pub(super) fn parse_slot(token: &str) -> Result<(u32, u32), Status> {
    if token.is_empty() {
        return Ok((0, 0));
    }
    let parts = token.split_once('.').and_then(|(slot, attempt)| Some((slot.parse().ok()?, attempt.parse().ok()?)));
    parts.ok_or_else(|| no_page(token))
}

fn no_page(token: &str) -> Status {
    let shown: String = token.chars().take(40).collect();
    Status::invalid_argument(format!("page: {shown:?} is no page of this list; begin again without one"))
}

#[cfg(test)]
mod tests {
    use goat_proto::v1;

    use super::*;

    fn row(number: usize) -> v1::Task {
        v1::Task { slot: number as u32, error: "x".repeat(1_000), ..v1::Task::default() }
    }

    #[test]
    fn pages_put_together_are_the_whole_and_none_is_large() {
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            let (shown, next) = page(from..5_000, row, |number| number.to_string());
            assert!(shown.iter().map(Message::encoded_len).sum::<usize>() < PAGE_BYTES + 2_000);
            seen.extend(shown.iter().map(|task| task.slot));
            if next.is_empty() {
                break;
            }
            from = next.parse::<usize>().expect("a token of ours") + 1;
        }
        assert!(seen.iter().copied().eq(0..5_000));
        assert!(page(0..0, row, |number| number.to_string()).1.is_empty());
    }

    #[test]
    fn tokens_are_read_back_and_others_refused() {
        assert_eq!(parse_slot(&slot_token((7, 3))).expect("its own"), (7, 3));
        assert_eq!(parse_slot("").expect("the beginning"), (0, 0));
        for wrong in ["7", "7.x", "-1.1", "0123456789ab"] {
            parse_slot(wrong).expect_err("no token");
        }
        after::<goat_core::model::TaskId>("7.3").expect_err("no token");
    }
}
