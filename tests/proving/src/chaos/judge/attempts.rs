//! What managers say of attempts, against what Docker has seen of them.

use std::collections::{BTreeMap, BTreeSet};

use goat_proto::v1;
use goat_testcluster::witness::Life;

use super::super::services::{CRASH, CRASH_CODE, CRASHES, ONE, STILL, STOP};

/// Whether managers counted honestly: no more tasks have lived in a slot than it had attempts, and those that lived are
/// known. `tasks`: all that managers remember.
pub fn judge(tasks: &[v1::Task], lives: &[Life]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut lived: BTreeMap<(&str, u32), BTreeSet<&str>> = BTreeMap::new();
    // Slots of the others are given up and begin anew, with their first attempt.
    for life in lives.iter().filter(|life| [STILL, STOP, ONE].contains(&life.service.as_str())) {
        lived.entry((&life.service, life.slot)).or_default().insert(&life.task);
    }
    for ((service, slot), lived) in lived {
        let own = tasks.iter().filter(|task| task.service == service && task.slot == slot);
        let Some(newest) = own.map(|task| task.attempt).max() else { continue };
        if lived.len() > newest as usize {
            wrong.push(format!("{service}.{slot} had {} tasks that ran, and {newest} attempts", lived.len()));
        }
    }
    wrong
}

/// Whether the service that fails at its start had as many attempts as it was allowed, and no more. `tasks`: all of it.
pub fn judge_crashes(tasks: &[v1::Task]) -> Vec<String> {
    let own = |task: &&v1::Task| task.state == "failed" && task.exit_code == Some(CRASH_CODE);
    let failed = tasks.iter().filter(own).count();
    let mut wrong = Vec::new();
    if failed > CRASHES as usize + 1 {
        wrong.push(format!("{CRASH} failed {failed} times by itself, and had {CRASHES} restarts"));
    }
    let newest = tasks.iter().map(|task| task.attempt).max().unwrap_or(0);
    if newest < CRASHES + 1 {
        wrong.push(format!("{CRASH} was given up after {newest} attempts, and had {CRASHES} restarts"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(service: &str, id: &str, attempt: u32) -> v1::Task {
        let (service, id) = (service.to_owned(), id.to_owned());
        v1::Task { service, id, slot: 1, attempt, state: "failed".into(), exit_code: Some(3), ..v1::Task::default() }
    }

    fn life(service: &str, task: &str) -> Life {
        let (service, task, node) = (service.to_owned(), task.to_owned(), "w1".to_owned());
        Life { service, slot: 1, node, task, from_ms: 1, until_ms: Some(2) }
    }

    #[test]
    fn a_slot_has_no_more_lives_than_attempts() {
        let lives = [life("stop", "a"), life("stop", "b"), life("stop", "b")];
        assert_eq!(judge(&[task("stop", "b", 2)], &lives), Vec::<String>::new());
        assert_eq!(judge(&[task("stop", "b", 1)], &lives), ["stop.1 had 2 tasks that ran, and 1 attempts"]);
        assert_eq!(judge(&[task("busy", "b", 1)], &[life("busy", "a"), life("busy", "b")]), Vec::<String>::new());
    }

    #[test]
    fn what_fails_has_its_attempts_and_no_more() {
        let tasks = |count: u32| (1..=count).map(|nth| task(CRASH, &nth.to_string(), nth)).collect::<Vec<_>>();
        assert!(judge_crashes(&tasks(CRASHES + 1)).is_empty());
        assert_eq!(judge_crashes(&tasks(CRASHES)).len(), 1);
        assert_eq!(judge_crashes(&tasks(CRASHES + 2)).len(), 1);
        // Its worker's fault, and not its own.
        let mut lost = tasks(CRASHES + 2);
        (lost[0].state, lost[0].exit_code) = ("lost".into(), None);
        assert!(judge_crashes(&lost).is_empty());
    }
}
