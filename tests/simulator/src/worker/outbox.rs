//! Reports on their way to the leader, as a worker keeps them: of each task that it runs and the latest, until they are
//! acknowledged, again in each new session.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::TaskState;
use goat_core::state::command::TaskReport;

const MAX_IN_FLIGHT: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    unacked: BTreeMap<u64, TaskReport>,
    next_number: u64,
    unsent: BTreeSet<u64>,
    in_flight: BTreeMap<u64, Vec<u64>>,
    next_sequence: u64,
}

impl Outbox {
    pub fn push(&mut self, report: TaskReport) {
        let is_older = |old: &TaskReport| old.task == report.task && old.state != TaskState::Running;
        let older: Vec<u64> = self.unacked.iter().filter(|(_, old)| is_older(old)).map(|(number, _)| *number).collect();
        for number in older {
            self.unacked.remove(&number);
            self.unsent.remove(&number);
        }
        self.next_number += 1;
        self.unsent.insert(self.next_number);
        self.unacked.insert(self.next_number, report);
    }

    pub fn begin_session(&mut self) {
        self.in_flight.clear();
        self.next_sequence = 1;
        self.unsent = self.unacked.keys().copied().collect();
    }

    pub fn take_batch(&mut self) -> Option<(u64, Vec<TaskReport>)> {
        if self.unsent.is_empty() || self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let numbers: Vec<u64> = std::mem::take(&mut self.unsent).into_iter().collect();
        let reports = numbers.iter().filter_map(|number| self.unacked.get(number)).cloned().collect();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.in_flight.insert(sequence, numbers);
        Some((sequence, reports))
    }

    pub fn acked(&mut self, sequence: u64) {
        let left = self.in_flight.split_off(&(sequence + 1));
        for number in std::mem::replace(&mut self.in_flight, left).into_values().flatten() {
            self.unacked.remove(&number);
        }
    }
}
