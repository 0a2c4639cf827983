//! What is still to happen, by its time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Event;
use crate::script::Script;

/// Deeds stay in their script, which is in order: hundreds wait for their time, where of all else there are a few dozen.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next_deed: usize,
    set: BinaryHeap<Reverse<Entry>>,
    /// Of all that was ever set.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    number: u64,
    event: Event,
}

impl Queue {
    pub(super) fn push(&mut self, at_ms: u64, event: Event) {
        self.number += 1;
        self.set.push(Reverse(Entry { at_ms, number: self.number, event }));
    }

    /// What is due first, and when: of one time the deeds, and then what was set first.
    pub(super) fn next(&mut self, script: &Script) -> Option<(u64, Event)> {
        let set_ms = self.set.peek().map(|Reverse(entry)| entry.at_ms);
        let deed = script.events.get(self.next_deed);
        if let Some(deed) = deed.filter(|deed| set_ms.is_none_or(|set_ms| deed.at_ms <= set_ms)) {
            self.next_deed += 1;
            return Some((deed.at_ms, Event::Deed(self.next_deed - 1)));
        }
        self.set.pop().map(|Reverse(entry)| (entry.at_ms, entry.event))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}
