//! What an agent makes of what an earlier one left: journal and containers side by side. Pure.
//!
//! | journal | container | the task |
//! | --- | --- | --- |
//! | ended | any but running | has ended; its container stays for its logs |
//! | ended | running | has ended; somebody started its container again, which is ended |
//! | running | running | runs: it is adopted |
//! | started, or nothing | running | is adopted; with a health check it is not ready, as far as is known |
//! | running, started, or nothing | ended | has ended, as the container says |
//! | running, or started | none | has failed: it ran, and may not run again |
//! | nothing | never started | the container is removed; the task is begun when it is assigned |

use std::collections::BTreeMap;

use goat_core::model::{Driver, TaskId};

use crate::runtime::{Found, FoundState, RUNTIME_DOWN};
use crate::task::{Exit, Record};

/// What is to be done about a task that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// Nothing: it has ended, and that is written.
    Ended(Record),
    /// It has ended, that is written, and its container runs again: end the container.
    StartedAgain(Record, Found),
    /// It runs, or is not known not to: watch it.
    Watch(Record),
    /// It has ended and that is news: write it. The exit, where it is None, has to be asked for.
    End(Record, Option<Exit>),
    /// It ran and is gone: write that it failed.
    Vanished(Record),
    /// Remove a container that never ran.
    Remove(Found),
    /// A copy of a task's container runs: end it.
    Copy(Found),
}

/// `found` is everything that is there, or None where the runtimes could not all be asked: then what the journal says is
/// believed, and the next listing decides.
pub fn adopt(journal: Vec<Record>, found: Option<Vec<Found>>) -> Vec<Adoption> {
    let is_listed = found.is_some();
    let ids = journal.iter().map(|record| (record.meta.task, record.container_id.clone())).collect();
    let (mut found, copies) = told_apart(found.unwrap_or_default(), &ids);
    let mut adoptions: Vec<_> = copies.into_iter().map(Adoption::Copy).collect();
    for record in journal {
        let there = found.remove(&record.meta.task);
        adoptions.push(match there {
            Some(there) if record.state.is_terminal() && there.is_running() => Adoption::StartedAgain(record, there),
            _ if record.state.is_terminal() => Adoption::Ended(record),
            Some(there) => of_found(there, Some(record)),
            None if is_listed => Adoption::Vanished(record),
            None => Adoption::Watch(record),
        });
    }
    adoptions.extend(found.into_values().map(|there| of_found(there, None)));
    adoptions
}

/// Each task's own container, and running copies of them: somebody made an image of one (`docker commit`) and ran it, and it has
/// the same labels. `ids`: of tasks that are known, their containers, if they have one. Of unknown ones the oldest container, which
/// comes first, is the task's own.
pub(super) fn told_apart(
    found: Vec<Found>,
    ids: &BTreeMap<TaskId, Option<String>>,
) -> (BTreeMap<TaskId, Found>, Vec<Found>) {
    let (mut own, mut copies) = (BTreeMap::new(), Vec::new());
    for found in found {
        let known = ids.get(&found.meta.task).and_then(Option::as_ref);
        let is_named = found.meta.driver == Driver::Process || known.is_none_or(|id| *id == found.container_id);
        let is_own = is_named && !own.contains_key(&found.meta.task);
        if is_own {
            own.insert(found.meta.task, found);
        } else if found.is_running() {
            copies.push(found);
        }
    }
    (own, copies)
}

/// A machine that is restarted ends what runs on it, mostly with exit code 0. That is neither a task's success nor its failure.
pub(super) fn after_reboot(record: &Record, exit: Exit) -> Exit {
    if !record.is_of_another_boot() {
        return exit;
    }
    let problem = "it ended when the machine was restarted";
    Exit { failure: Some((RUNTIME_DOWN.into(), problem.into())), ..exit }
}

fn of_found(there: Found, record: Option<Record>) -> Adoption {
    let mut record = record.unwrap_or_else(|| Record::new(there.meta.clone(), 0));
    match there.state {
        FoundState::Created if !record.was_started() => Adoption::Remove(there),
        // It was replaced by one that never ran: not by us.
        FoundState::Created => Adoption::Vanished(record),
        FoundState::Running { started_at_ms, .. } => {
            record.started(there.container_id, started_at_ms);
            Adoption::Watch(record)
        }
        FoundState::Ended(exit) => {
            record.container_id.get_or_insert(there.container_id);
            Adoption::End(record, exit)
        }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{HealthCheck, TaskState};

    use super::*;
    use crate::task::TaskMeta;
    use crate::task::tests::meta;

    fn record(task: u64, state: TaskState) -> Record {
        Record { state, ..Record::new(meta(task), 1) }
    }

    fn found(task: u64, state: FoundState) -> Found {
        Found { meta: meta(task), container_id: "c".into(), state }
    }

    fn told(journal: Vec<Record>, found: Option<Vec<Found>>) -> String {
        let words = adopt(journal, found).into_iter().map(|adoption| match adoption {
            Adoption::Ended(record) => format!("ended {}", record.state.as_str()),
            Adoption::StartedAgain(record, _) => format!("ended {} and runs again", record.state.as_str()),
            Adoption::Copy(found) => format!("copy {}", found.container_id),
            Adoption::Watch(record) => format!("watch {}", record.state.as_str()),
            Adoption::End(_, exit) => format!("end {:?}", exit.and_then(|exit| exit.code)),
            Adoption::Vanished(_) => "vanished".into(),
            Adoption::Remove(_) => "remove".into(),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_ended_task_stays_ended_whatever_is_there() {
        for there in [None, Some(vec![]), Some(vec![found(1, FoundState::Ended(None))])] {
            assert_eq!(told(vec![record(1, TaskState::Failed)], there), "ended failed");
        }
        let running = FoundState::Running { started_at_ms: 1, is_paused: false };
        let again = told(vec![record(1, TaskState::Failed)], Some(vec![found(1, running)]));
        assert_eq!(again, "ended failed and runs again");
    }

    #[test]
    fn a_container_counts_by_its_id_and_an_unknown_task_has_the_oldest() {
        let there = |id: &str| {
            let state = FoundState::Running { started_at_ms: 9, is_paused: false };
            Found { container_id: id.into(), ..found(1, state) }
        };
        let ended = Found { container_id: "c".into(), ..found(1, FoundState::Ended(None)) };
        let both = || Some(vec![there("a"), there("b"), ended.clone()]);
        let known = |id: &str| Record { container_id: Some(id.into()), ..record(1, TaskState::Running) };
        assert_eq!(told(vec![known("b")], both()), "copy a; watch running");
        assert_eq!(told(vec![], both()), "copy b; watch running");
        assert_eq!(told(vec![known("x")], both()), "copy a; copy b; vanished");
    }

    #[test]
    fn running_containers_are_adopted_with_or_without_a_journal() {
        let running = || Some(vec![found(1, FoundState::Running { started_at_ms: 9, is_paused: false })]);
        assert_eq!(told(vec![record(1, TaskState::Running)], running()), "watch running");
        assert_eq!(told(vec![], running()), "watch running");
    }

    #[test]
    fn a_task_with_a_health_check_is_adopted_as_ready_only_if_that_is_written() {
        let probe = goat_core::model::HealthProbe::Tcp { port: 80 };
        let health = HealthCheck { probe, interval_ms: 1_000, timeout_ms: 500, start_period_ms: 0, retries: 3 };
        let checked = TaskMeta { health: Some(health), ..meta(1) };
        let adopted = |journal: Vec<Record>| {
            let state = FoundState::Running { started_at_ms: 9, is_paused: false };
            let found = Found { meta: checked.clone(), container_id: "c".into(), state };
            match adopt(journal, Some(vec![found])).pop() {
                Some(Adoption::Watch(record)) => (record.state, record.started_at_ms, record.container_id),
                other => panic!("{other:?}"),
            }
        };
        let expected = |state| (state, Some(9), Some("c".to_owned()));
        assert_eq!(adopted(vec![]), expected(TaskState::Starting));
        let mut record = Record::new(checked.clone(), 1);
        record.started("c".into(), 9);
        assert_eq!(adopted(vec![record.clone()]), expected(TaskState::Starting));
        assert_eq!(told(vec![record.clone()], Some(vec![])), "vanished", "it was started, and is not again");
        assert_eq!(told(vec![record.clone()], None), "watch starting");
        record.state = TaskState::Running;
        assert_eq!(adopted(vec![record]), expected(TaskState::Running));
    }

    #[test]
    fn a_task_that_ran_never_runs_again() {
        let journal = || vec![record(1, TaskState::Running)];
        assert_eq!(told(journal(), Some(vec![])), "vanished");
        assert_eq!(told(journal(), Some(vec![found(1, FoundState::Created)])), "vanished");
        let exit = Exit { code: Some(3), ..Exit::default() };
        assert_eq!(told(journal(), Some(vec![found(1, FoundState::Ended(Some(exit)))])), "end Some(3)");
    }

    #[test]
    fn what_a_restart_of_the_machine_ended_is_not_done() {
        let exit = Exit { code: Some(0), ..Exit::default() };
        let mut record = record(1, TaskState::Running);
        record.started("c".into(), 1);
        assert_eq!(after_reboot(&record, exit.clone()), exit, "it ended in this boot");
        record.boot_id = Some("another".into());
        let failure = after_reboot(&record, exit.clone()).failure.expect("with a reason");
        assert_eq!(failure.0, RUNTIME_DOWN, "so that it runs again, whatever the restart policy");
        record.boot_id = None;
        assert_eq!(after_reboot(&record, exit.clone()), exit, "an earlier agent did not write it down");
    }

    #[test]
    fn a_container_that_never_ran_is_redone() {
        assert_eq!(told(vec![], Some(vec![found(1, FoundState::Created)])), "remove");
    }

    #[test]
    fn without_an_answer_from_the_runtime_the_journal_is_believed() {
        assert_eq!(told(vec![record(1, TaskState::Running)], None), "watch running");
    }
}
