//! The largest command, and how to divide what would make a larger one.

use std::io;

use serde::Serialize;

/// An encoded command is not larger. A manager refuses a larger one before it reaches the log: each entry has to reach
/// every other manager in one message. Logs of earlier versions may hold larger ones, which are still replicated.
pub const MAX_COMMAND_BYTES: usize = 1 << 20;

/// Bytes of the items that one divided command carries; the rest is for what goes with them.
const MAX_ITEMS_BYTES: usize = MAX_COMMAND_BYTES / 2;

/// Counts bytes.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encoded_bytes<T: Serialize>(item: &T) -> usize {
    let mut counter = Counter(0);
    rmp_serde::encode::write_named(&mut counter, item).expect("our types have no failing serializer");
    counter.0
}

/// Divides items, in their order, so that each part fits into one command. An item that is too large by itself is a part
/// of its own, which is refused where it is proposed. Of no items there are no parts.
pub fn divided<T: Serialize>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let item_bytes = encoded_bytes(&item);
        match parts.last_mut().filter(|_| bytes + item_bytes <= MAX_ITEMS_BYTES) {
            Some(part) => part.push(item),
            None => {
                bytes = 0;
                parts.push(vec![item]);
            }
        }
        bytes += item_bytes;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::model::TaskId;
    use crate::state::command::{Action, Command, Step};

    fn explain(number: u64, bytes: usize) -> Step {
        Step::Explain { task: TaskId::from_random(number), seen_version: u64::MAX, error: "x".repeat(bytes) }
    }

    #[test]
    fn parts_fit_into_commands_and_put_together_are_the_whole() {
        let steps: Vec<Step> = (0..500).map(|number| explain(number, 20_000)).collect();
        let parts = divided(steps.clone());
        for part in &parts {
            let action = Action::Plan { steps: part.clone() };
            let bytes = codec::encode(&Command { now_ms: u64::MAX, request: None, action }).len();
            assert!(bytes <= MAX_COMMAND_BYTES, "{bytes}");
        }
        assert!(parts.len() < 30, "{} parts", parts.len());
        assert_eq!(parts.concat(), steps);
    }

    #[test]
    fn small_items_stay_together_and_none_make_no_part() {
        assert_eq!(divided((0..500).map(|number| explain(number, 900)).collect()).len(), 1);
        assert!(divided(Vec::<Step>::new()).is_empty());
        let parts = divided(vec![explain(1, 10), explain(2, MAX_COMMAND_BYTES), explain(3, 10)]);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
