//! Rules of lives:
//!
//! - a slot of `stop` has one live instance at the most, at any moment;
//! - one of `stop-if-isolated` too, but where two workers at once had trouble with their links: that is not promised;
//! - an instance of a `keep` service that nobody changes ends only where its worker's machine failed, or its Docker where
//!   containers do not outlive it, where it was drained, or where another of its slot lives, or lived while the worker's
//!   trouble kept it from being told or from obeying; and another is started beside it only where its worker had any trouble;
//! - no task begins twice.
//!
//! Of a time in which this program stood still for longer than fencing has to spare nothing is said: with it stand the
//! machine's other programs, and those that kill in time are among them.

use std::collections::BTreeMap;

use goat_testcluster::drill::Role;
use goat_testcluster::witness::{Life, overlaps};

use super::super::causes::{Cause, Kind};
use super::{Account, Verdict};

/// What is left of the time to kill (1.5 s) after the watchdog begins, 0.8 s after a lease's end.
const SPARE_MS: u64 = 500;
/// A lease, the leader's wait and some: what stood still in that time may have let something run on for too long.
const LEASE_MS: u64 = 8_000;
/// From the end of a fault until all that follows from it has come to its end.
const AFTER_MS: u64 = 30_000;

/// Judges all lives.
pub fn judge(account: &Account, verdict: &mut Verdict) {
    let mut services: BTreeMap<&str, Vec<Life>> = BTreeMap::new();
    for life in &account.lives {
        services.entry(&life.service).or_default().push(life.clone());
    }
    for (service, lives) in &services {
        match account.role(service) {
            Some(role @ (Role::Stop | Role::Isolated)) => once_at_a_time(account, role, lives, verdict),
            Some(Role::Keep) if *service == super::super::services::STILL => kept(account, lives, verdict),
            _ => {}
        }
    }
    began_once(&account.lives, verdict);
}

fn once_at_a_time(account: &Account, role: Role, lives: &[Life], verdict: &mut Verdict) {
    for overlap in overlaps(lives, account.now_ms) {
        let span = (overlap.newer.from_ms.saturating_sub(LEASE_MS), overlap.newer.from_ms + overlap.ms);
        let text = format!("{role}: {}", overlap.describe());
        if let Some(ms) = stood_still(account, span) {
            verdict.excused.push(format!("{text}; the machine stood still for {ms} ms"));
        } else if role == Role::Isolated && cut_together(account, span) {
            verdict.excused.push(format!("{text}; several workers had trouble with their links"));
        } else {
            verdict.violations.push(text);
        }
    }
}

/// For how long, where it was too long.
fn stood_still(account: &Account, (from_ms, to_ms): (u64, u64)) -> Option<u64> {
    let meets = account.stalls.iter().filter(|stall| stall.at_ms >= from_ms && stall.at_ms <= to_ms + stall.ms);
    meets.map(|stall| stall.ms).max().filter(|ms| *ms >= SPARE_MS)
}

/// Whether links of more than one worker were not as they should be within that time.
fn cut_together(account: &Account, span: (u64, u64)) -> bool {
    let is_workers = |cause: &&Cause| cause.kind == Kind::Links && cause.who.starts_with('w');
    let met = account.causes.iter().filter(is_workers).filter(|cause| cause.meets(span, AFTER_MS));
    let mut workers: Vec<&str> = met.map(|cause| cause.who.as_str()).collect();
    workers.sort_unstable();
    workers.dedup();
    workers.len() > 1
}

fn kept(account: &Account, lives: &[Life], verdict: &mut Verdict) {
    let others = |life: &Life, at_ms: u64| -> Vec<&Life> {
        lives.iter().filter(|other| other.slot == life.slot && *other != life && other.is_alive_at(at_ms)).collect()
    };
    for life in lives {
        if let Some(until_ms) = life.until_ms.filter(|until_ms| *until_ms >= account.began_ms)
            && others(life, until_ms).is_empty()
            && !ends(account, &life.node, until_ms)
            && !was_surplus(account, lives, life, until_ms)
        {
            verdict.violations.push(format!("keep: {} ended without a cause", life.describe()));
        }
        if life.from_ms < account.began_ms {
            continue;
        }
        for other in others(life, life.from_ms) {
            if troubled(account, &other.node, life.from_ms) {
                continue;
            }
            let text = format!("keep: {} was started beside {}", life.describe(), other.describe());
            match stood_still(account, (life.from_ms.saturating_sub(LEASE_MS), life.from_ms)) {
                Some(ms) => verdict.excused.push(format!("{text}; the machine stood still for {ms} ms")),
                None => verdict.violations.push(format!("{text}, whose worker had no trouble")),
            }
        }
    }
}

/// Whether something was done to the worker that may end what it runs.
fn ends(account: &Account, worker: &str, at_ms: u64) -> bool {
    let is_one =
        |cause: &&Cause| matches!(cause.kind, Kind::Machine | Kind::Daemon | Kind::Drain) && cause.who == worker;
    account.causes.iter().filter(is_one).any(|cause| cause.meets((at_ms, at_ms), AFTER_MS))
}

/// Whether another of its slot lived beside it a while ago, and its worker had trouble since.
fn was_surplus(account: &Account, lives: &[Life], life: &Life, at_ms: u64) -> bool {
    let span = (life.from_ms.max(at_ms.saturating_sub(AFTER_MS)), at_ms);
    let meets = |other: &Life| other.from_ms <= span.1 && other.until_ms.is_none_or(|until_ms| until_ms > span.0);
    let mut others = lives.iter().filter(|other| other.slot == life.slot && *other != life && meets(other));
    troubled(account, &life.node, at_ms) && others.next().is_some()
}

/// Whether anything was done to the worker that may make managers give it up.
fn troubled(account: &Account, worker: &str, at_ms: u64) -> bool {
    let is_its = |cause: &&Cause| cause.who == worker;
    account.causes.iter().filter(is_its).any(|cause| cause.meets((at_ms, at_ms), AFTER_MS))
}

fn began_once(lives: &[Life], verdict: &mut Verdict) {
    let mut tasks: BTreeMap<&str, Vec<&Life>> = BTreeMap::new();
    for life in lives {
        tasks.entry(&life.task).or_default().push(life);
    }
    for (task, lives) in tasks.iter().filter(|(_, lives)| lives.len() > 1) {
        let where_: Vec<_> = lives.iter().map(|life| format!("{} from {}", life.describe(), life.from_ms)).collect();
        verdict.violations.push(format!("task {task} began {} times: {}", lives.len(), where_.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use goat_testcluster::pulse::Stall;

    use super::super::super::services::ROLES;
    use super::*;

    const BEGAN: u64 = 100_000;

    fn life(service: &str, node: &str, from_ms: u64, until_ms: Option<u64>) -> Life {
        let until_ms = until_ms.map(|until_ms| BEGAN + until_ms);
        let (service, node, task) = (service.into(), node.into(), format!("t{from_ms}"));
        Life { service, slot: 1, node, task, from_ms: BEGAN + from_ms, until_ms }
    }

    fn cause(kind: Kind, who: &str, from_ms: u64, until_ms: u64) -> Cause {
        Cause { kind, who: who.into(), from_ms: BEGAN + from_ms, until_ms: Some(BEGAN + until_ms) }
    }

    fn judged(lives: &[Life], causes: &[Cause], stalls: &[Stall]) -> (usize, usize) {
        let account = Account {
            lives: lives.into(),
            causes: causes.into(),
            stalls: stalls.into(),
            roles: ROLES.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
            began_ms: BEGAN,
            now_ms: BEGAN + 90_000,
        };
        let mut verdict = Verdict::default();
        judge(&account, &mut verdict);
        (verdict.violations.len(), verdict.excused.len())
    }

    #[test]
    fn two_live_instances_of_stop_are_wrong_whatever_was_done() {
        let both = [life("stop", "w1", 0, Some(20_001)), life("stop", "w2", 20_000, None)];
        let all = [cause(Kind::Links, "w1", 0, 30_000), cause(Kind::Links, "w2", 0, 30_000)];
        assert_eq!(judged(&both, &all, &[]), (1, 0));
        let passed_on = [life("stop", "w1", 0, Some(20_000)), life("stop", "w2", 20_000, None)];
        assert_eq!(judged(&passed_on, &[], &[]), (0, 0));
    }

    #[test]
    fn a_machine_that_stood_still_excuses_only_what_was_near_and_only_if_it_was_for_long() {
        let both = [life("stop", "w1", 0, Some(20_400)), life("stop", "w2", 20_000, None)];
        let stall = |at_ms, ms| [Stall { at_ms: BEGAN + at_ms, ms }];
        assert_eq!(judged(&both, &[], &stall(18_000, 600)), (0, 1));
        assert_eq!(judged(&both, &[], &stall(18_000, 300)), (1, 0));
        assert_eq!(judged(&both, &[], &stall(5_000, 600)), (1, 0));
        assert_eq!(judged(&both, &[], &stall(40_000, 600)), (1, 0));
    }

    #[test]
    fn a_single_instance_may_be_two_only_where_two_workers_had_trouble() {
        let both = [life("one", "w1", 0, Some(20_400)), life("one", "w2", 20_000, None)];
        let alone = [cause(Kind::Links, "w1", 10_000, 30_000), cause(Kind::Agent, "w2", 10_000, 30_000)];
        assert_eq!(judged(&both, &alone, &[]), (1, 0));
        let together = [cause(Kind::Links, "w1", 10_000, 30_000), cause(Kind::Links, "w3", 15_000, 16_000)];
        assert_eq!(judged(&both, &together, &[]), (0, 1));
    }

    #[test]
    fn a_kept_instance_ends_for_a_cause_or_because_another_lives() {
        let ended = [life("still", "w1", 0, Some(20_000)), life("still", "w2", 21_000, None)];
        assert_eq!(judged(&ended, &[], &[]), (1, 0));
        assert_eq!(judged(&ended, &[cause(Kind::Agent, "w1", 15_000, 19_000)], &[]), (1, 0), "it outlives its agent");
        assert_eq!(judged(&ended, &[cause(Kind::Daemon, "w2", 15_000, 19_000)], &[]), (1, 0), "another worker's");
        assert_eq!(judged(&ended, &[cause(Kind::Hang, "w1", 15_000, 19_000)], &[]), (1, 0), "it outlives that");
        assert_eq!(judged(&ended, &[cause(Kind::Daemon, "w1", 15_000, 19_000)], &[]), (0, 0));
        let surplus = [life("still", "w1", 0, Some(20_000)), life("still", "w2", 15_000, None)];
        assert_eq!(judged(&surplus, &[cause(Kind::Agent, "w1", 10_000, 19_000)], &[]), (0, 0));
        let late = [life("still", "w1", 0, Some(18_000)), life("still", "w2", 15_000, Some(20_000))];
        assert_eq!(judged(&late[1..], &[], &[]), (1, 0));
        let dead = cause(Kind::Machine, "w1", 14_000, 19_000);
        assert_eq!(judged(&late, std::slice::from_ref(&dead), &[]), (1, 0), "nothing kept w2 from being told in time");
        assert_eq!(judged(&late, &[dead, cause(Kind::Hang, "w2", 16_000, 20_000)], &[]), (0, 0));
        let before = [life("still", "w1", 0, Some(0))];
        assert_eq!(judged(&before, &[], &[]), (1, 0));
    }

    #[test]
    fn a_kept_instance_has_another_beside_it_only_where_its_worker_had_trouble() {
        let both = [life("still", "w1", 0, None), life("still", "w2", 20_000, Some(25_000))];
        assert_eq!(judged(&both, &[], &[]), (1, 0));
        assert_eq!(judged(&both, &[cause(Kind::Links, "w1", 10_000, 30_000)], &[]), (0, 0));
        assert_eq!(judged(&both, &[cause(Kind::Links, "w2", 10_000, 30_000)], &[]), (1, 0));
    }

    #[test]
    fn a_task_that_begins_twice_is_wrong_in_any_service() {
        let twice = Life { task: "t0".into(), ..life("busy", "w1", 50, None) };
        assert_eq!(judged(&[life("busy", "w1", 0, Some(10)), twice], &[], &[]), (1, 0));
    }
}
