//! Task reports on their way to the leader: kept until acknowledged, sent in batches, sent again in each new session.
//!
//! Of each task at most two reports are kept: that it runs, and the latest. What lies between is of no use to anyone once
//! it is past.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::{TaskId, TaskState};
use goat_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::task::Record;

/// So many batches may be unacknowledged before the next waits; what comes meanwhile travels together.
const MAX_IN_FLIGHT: usize = 4;
/// Reports in one batch.
const MAX_BATCH: usize = 500;
/// A batch ends with the report that makes it so large.
const MAX_BATCH_BYTES: usize = 512 << 10;
/// Of a report beside its error text, which alone may be long.
const REPORT_BYTES: usize = 256;

#[derive(Debug, Default)]
struct State {
    /// What is not acknowledged, each under the number of its making.
    unacked: BTreeMap<u64, Entry>,
    next_number: u64,
    /// Numbers that this session has not sent.
    unsent: BTreeSet<u64>,
    /// Batches of this session by their sequence.
    in_flight: BTreeMap<u64, Vec<u64>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Entry {
    task: TaskId,
    state: TaskState,
    report: v1::TaskReport,
}

/// The outbox. One session at a time sends from it.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

impl Outbox {
    /// How many reports no leader has acknowledged.
    pub fn unacked(&self) -> usize {
        self.state.lock().unacked.len()
    }

    /// A task has come into a new state.
    pub fn push(&self, record: &Record) {
        let mut state = self.state.lock();
        let task = record.meta.task;
        let superseded: Vec<u64> = state
            .unacked
            .iter()
            .filter(|(_, entry)| entry.task == task && entry.state != TaskState::Running)
            .map(|(number, _)| *number)
            .collect();
        for number in superseded {
            state.unacked.remove(&number);
            state.unsent.remove(&number);
        }
        let number = state.next_number;
        state.next_number += 1;
        state.unacked.insert(number, Entry { task, state: record.state, report: record.report() });
        state.unsent.insert(number);
        drop(state);
        self.changed.notify_one();
    }

    /// A session begins: everything unacknowledged is to be sent again, and sequences begin at 1.
    pub fn begin_session(&self) {
        let mut state = self.state.lock();
        state.in_flight.clear();
        state.next_sequence = 1;
        state.unsent = state.unacked.keys().copied().collect();
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for something to send. It counts as sent in this session, and as nothing more until it is acknowledged.
    pub async fn next_batch(&self) -> v1::TaskReports {
        loop {
            if let Some(batch) = self.take_batch() {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    fn take_batch(&self) -> Option<v1::TaskReports> {
        let mut state = self.state.lock();
        if state.unsent.is_empty() || state.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let mut bytes = 0;
        let fits = |number: &u64| {
            let is_full = bytes >= MAX_BATCH_BYTES;
            bytes += state.unacked.get(number).map_or(0, |entry| entry.report.error.len() + REPORT_BYTES);
            !is_full
        };
        let numbers: Vec<u64> = state.unsent.iter().copied().take(MAX_BATCH).take_while(fits).collect();
        for number in &numbers {
            state.unsent.remove(number);
        }
        let reports = numbers.iter().filter_map(|number| state.unacked.get(number)).map(|entry| entry.report.clone());
        let reports = reports.collect();
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        state.in_flight.insert(sequence, numbers);
        Some(v1::TaskReports { sequence, reports })
    }

    /// Batches up to `sequence` of this session are durable.
    pub fn acked(&self, sequence: u64) {
        let mut state = self.state.lock();
        let left = state.in_flight.split_off(&(sequence.saturating_add(1)));
        for number in std::mem::replace(&mut state.in_flight, left).into_values().flatten() {
            state.unacked.remove(&number);
        }
        drop(state);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::meta;

    fn push(outbox: &Outbox, task: u64, state: TaskState) {
        outbox.push(&Record { state, ..Record::new(meta(task), 1) });
    }

    fn states(batch: Option<v1::TaskReports>) -> Vec<String> {
        batch.into_iter().flat_map(|batch| batch.reports).map(|report| report.state).collect()
    }

    #[test]
    fn of_a_task_its_running_and_its_latest_state_are_sent() {
        let outbox = Outbox::default();
        outbox.begin_session();
        for state in [TaskState::Preparing, TaskState::Starting, TaskState::Running, TaskState::Failed] {
            push(&outbox, 1, state);
        }
        push(&outbox, 2, TaskState::Starting);
        assert_eq!(states(outbox.take_batch()), ["running", "failed", "starting"]);
        assert_eq!(states(outbox.take_batch()), [""; 0]);
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_too() {
        let outbox = Outbox::default();
        outbox.begin_session();
        for task in 0..400 {
            let error = Some("x".repeat(10_000));
            outbox.push(&Record { state: TaskState::Failed, error, ..Record::new(meta(task), 1) });
        }
        let (mut batches, mut sent) = (0, 0);
        while let Some(batch) = outbox.take_batch() {
            let bytes: usize = batch.reports.iter().map(|report| report.error.len()).sum();
            assert!(bytes < MAX_BATCH_BYTES + 5_000, "{bytes} bytes");
            (batches, sent) = (batches + 1, sent + batch.reports.len());
            outbox.acked(batch.sequence);
        }
        assert_eq!((batches, sent), (4, 400));
    }

    #[test]
    fn a_new_session_sends_again_what_was_not_acknowledged() {
        let outbox = Outbox::default();
        outbox.begin_session();
        push(&outbox, 1, TaskState::Running);
        assert_eq!(outbox.take_batch().expect("a batch").sequence, 1);
        push(&outbox, 2, TaskState::Running);
        assert_eq!(outbox.take_batch().expect("a batch").sequence, 2);
        outbox.acked(1);
        outbox.begin_session();
        let again = outbox.take_batch().expect("the second is sent again");
        assert_eq!((again.sequence, again.reports.len()), (1, 1));
        outbox.acked(1);
        outbox.begin_session();
        assert!(outbox.take_batch().is_none());
    }

    #[test]
    fn too_many_batches_without_an_answer_hold_the_next() {
        let outbox = Outbox::default();
        outbox.begin_session();
        for task in 0..MAX_IN_FLIGHT as u64 {
            push(&outbox, task, TaskState::Running);
            assert!(outbox.take_batch().is_some());
        }
        push(&outbox, 100, TaskState::Running);
        push(&outbox, 101, TaskState::Running);
        assert!(outbox.take_batch().is_none());
        outbox.acked(2);
        assert_eq!(states(outbox.take_batch()).len(), 2);
    }
}
