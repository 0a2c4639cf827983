//! Assignments as they come from the leader: full sets in one message or several, changes in order, specs shared or not.

use std::collections::HashMap;
use std::sync::Arc;

use goat_core::model::{ServiceSpec, TaskId};
use goat_proto::v1;
use tracing::error;

use super::End;
use crate::task::Assignment;

/// A spec that several assignments share, or why it cannot be used.
type Spec = Result<Arc<ServiceSpec>, String>;

/// What has come in one session.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Of the last message with assignments; None until one has come.
    sequence: Option<u64>,
    /// A full set of which the last message has not come.
    partial: Option<Vec<Assignment>>,
}

impl Assembly {
    /// Takes a message of a full set. The set, when it is the last: until then nothing may be stopped for not being in it.
    pub(super) fn full(&mut self, message: v1::Assignments) -> Result<Option<Vec<Assignment>>, End> {
        let mut set = match (message.continues, self.partial.take()) {
            (true, Some(begun)) if self.is_next(message.sequence) => begun,
            (true, _) => return Err(self.gap(message.sequence)),
            // A set that was not ended is given up for a newer one.
            (false, _) => Vec::new(),
        };
        self.sequence = Some(message.sequence);
        set.extend(parsed(message.tasks, message.specs));
        if message.more {
            self.partial = Some(set);
            return Ok(None);
        }
        Ok(Some(set))
    }

    /// Takes changes: tasks that are set, and tasks that are removed.
    pub(super) fn changes(&mut self, message: v1::AssignmentChanges) -> Result<(Vec<Assignment>, Vec<TaskId>), End> {
        if !self.is_next(message.sequence) {
            return Err(self.gap(message.sequence));
        }
        if self.partial.is_some() {
            return Err(End::Nonsense("changes came within a full set".into()));
        }
        self.sequence = Some(message.sequence);
        let removed = message.removed.iter().filter_map(|task| task.parse().ok()).collect();
        Ok((parsed(message.set, message.specs), removed))
    }

    fn is_next(&self, sequence: u64) -> bool {
        self.sequence.is_some() && self.sequence == sequence.checked_sub(1)
    }

    fn gap(&self, got: u64) -> End {
        End::Gap { last: self.sequence.unwrap_or(0), got }
    }
}

/// An assignment that does not name its task is left out: nothing can be done about it here.
fn parsed(assignments: Vec<v1::Assignment>, specs: Vec<v1::SharedSpec>) -> Vec<Assignment> {
    let specs: HashMap<(String, u64), Spec> = specs.into_iter().map(shared).collect();
    let parse = |wire: v1::Assignment| {
        let spec = match wire.spec {
            Some(_) => None,
            None => specs.get(&(wire.service_id.clone(), wire.spec_version)).cloned(),
        };
        match Assignment::read(wire, spec) {
            Ok(assignment) => Some(assignment),
            Err(error) => {
                error!(%error, "an assignment makes no sense");
                None
            }
        }
    };
    assignments.into_iter().filter_map(parse).collect()
}

fn shared(wire: v1::SharedSpec) -> ((String, u64), Spec) {
    let spec = wire.spec.ok_or_else(|| "spec: is missing".to_owned());
    let spec = spec.and_then(|spec| ServiceSpec::try_from(spec).map(Arc::new).map_err(|error| error.to_string()));
    ((wire.service_id, wire.spec_version), spec)
}

#[cfg(test)]
mod tests {
    use goat_core::model::ServiceId;

    use super::*;

    fn task(number: u64) -> v1::Assignment {
        v1::Assignment {
            task_id: TaskId::from_random(number).to_string(),
            service_id: ServiceId::from_random(1).to_string(),
            desired: "running".into(),
            spec_version: 7,
            ..v1::Assignment::default()
        }
    }

    fn part(sequence: u64, tasks: std::ops::Range<u64>, continues: bool, more: bool) -> v1::Assignments {
        let spec = Some(v1::ServiceSpec { name: "web".into(), image: "a:1".into(), ..v1::ServiceSpec::default() });
        let specs = vec![v1::SharedSpec { service_id: ServiceId::from_random(1).to_string(), spec_version: 7, spec }];
        v1::Assignments { sequence, tasks: tasks.map(task).collect(), continues, more, specs }
    }

    fn ids(set: Option<Vec<Assignment>>) -> Option<usize> {
        set.map(|set| {
            assert!(set.iter().all(|assignment| assignment.spec.as_ref().is_ok_and(|spec| spec.name == "web")));
            set.len()
        })
    }

    #[test]
    fn a_full_set_counts_when_its_last_part_has_come() {
        let mut assembly = Assembly::default();
        assert_eq!(ids(assembly.full(part(1, 0..3, false, true)).expect("in order")), None);
        assert_eq!(ids(assembly.full(part(2, 3..5, true, true)).expect("in order")), None);
        assert_eq!(ids(assembly.full(part(3, 5..6, true, false)).expect("in order")), Some(6));
        let changes = v1::AssignmentChanges { sequence: 4, set: vec![task(9)], ..Default::default() };
        let (set, removed) = assembly.changes(changes).expect("in order");
        assert_eq!((set.len(), removed.len()), (1, 0));
        assert!(set[0].spec.is_err(), "nobody said what it runs");
        assert_eq!(ids(assembly.full(part(1, 0..1, false, false)).expect("a set begins anywhere")), Some(1));
    }

    #[test]
    fn tasks_of_one_spec_share_it() {
        let set = Assembly::default().full(part(1, 0..3, false, false)).expect("in order").expect("one part");
        let specs: Vec<_> = set.iter().map(|assignment| assignment.spec.as_ref().expect("it is there")).collect();
        assert!(specs.windows(2).all(|pair| Arc::ptr_eq(pair[0], pair[1])));
    }

    #[test]
    fn a_part_that_is_missing_ends_the_session_and_stops_nothing() {
        let missing = [
            vec![part(2, 0..1, true, false)],
            vec![part(1, 0..1, false, true), part(3, 1..2, true, false)],
            vec![part(1, 0..1, false, false), part(2, 1..2, true, false)],
        ];
        for parts in missing {
            let mut assembly = Assembly::default();
            let results: Vec<_> = parts.into_iter().map(|part| assembly.full(part)).collect();
            assert!(matches!(results.last(), Some(Err(End::Gap { .. }))), "{results:?}");
        }
        let mut assembly = Assembly::default();
        assembly.full(part(1, 0..1, false, true)).expect("it begins");
        let early = v1::AssignmentChanges { sequence: 2, ..Default::default() };
        assert!(matches!(assembly.changes(early), Err(End::Nonsense(_))));
        let first = v1::AssignmentChanges { sequence: 1, ..Default::default() };
        assert!(matches!(Assembly::default().changes(first), Err(End::Gap { .. })), "no set came before");
    }
}
