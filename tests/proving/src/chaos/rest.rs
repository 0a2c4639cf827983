//! After the storm: everything is healed, the cluster has to come to rest, and all that happened is judged.

use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::drill::Checks;
use goat_testcluster::pulse::Pulse;
use goat_testcluster::witness::{Life, Witness, now_ms};
use tokio::time::Instant;

use super::causes::Kind;
use super::ground::{Ended, Ground};
use super::judge::{Account, Verdict, attempts, lives};
use super::members::place;
use super::mind::{self, Mind};
use super::plan::Shape;
use super::services::{CRASH, ROLES};
use super::{Report, judge};
use crate::collected::Collected;
use crate::judge::{Findings, keys, order, replay};
use crate::op::{Answer, Call, Op};
use crate::workload::{Workload, ask, is_key};

/// For the cluster to be whole after everything was healed.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// For the service that fails to use up its attempts: those and their waits, and what the storm took.
const CRASHED_WITHIN: Duration = Duration::from_secs(60);
/// With nothing broken nothing may move, and nobody be elected.
const CALM: Duration = Duration::from_secs(5);
/// A machine that stood still for so long may have elections without anybody's fault.
const STOOD_STILL_MS: u64 = 250;
const LAST_READS: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// A program that a disk has failed may end a little later.
const AFTER_DISK_MS: u64 = 10_000;
/// What a manager ends with that was removed.
const REMOVED: &str = "code 3";

/// Waits until the cluster is whole.
pub async fn whole(checks: &Checks, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let why = match checks.unwhole().await {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => why,
            Err(error) => error.to_string(),
        };
        anyhow::ensure!(Instant::now() < deadline, "the cluster is not whole after {} s: {why}", within.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

/// What is left to be done with a round whose storm is over.
pub struct Rest<'a> {
    pub seed: u64,
    pub shape: &'a Shape,
    pub ground: &'a Ground<'a>,
    pub checks: Checks,
    pub witness: Witness,
    pub pulse: Pulse,
    pub workload: Workload,
}

impl Rest<'_> {
    /// Everything that must hold.
    pub async fn conclude(self) -> anyhow::Result<Report> {
        let Self { seed, shape, ground, checks, witness, pulse, workload } = self;
        let over = Instant::now();
        let mut report = Report { seed, ..Report::default() };
        let mut wrong = Vec::new();
        match settle(ground, &checks, &mut wrong).await {
            Ok(()) => {
                report.healed_ms = over.elapsed().as_millis() as u64;
                calm(ground, &witness, &pulse, &mut wrong)
                    .await
                    .unwrap_or_else(|error| wrong.push(format!("{error:#}")));
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        let book = workload.book.clone();
        let minds = last_words(ground, workload, &book).await.unwrap_or_else(|error| told(&mut wrong, &error));
        wrong.extend(mind::differing(&minds));
        let tasks = ground.client.tasks(true).await;
        // What it has seen counts even where a daemon does not answer any more.
        let seen = witness.lives();
        let seen = witness.finish().await.unwrap_or(seen);
        pulse.stop().await;
        wrong.extend(tasks.map_or_else(
            |error| vec![format!("the managers' tasks cannot be read: {error}")],
            |tasks| attempts::judge(&tasks, &seen),
        ));
        let (verdict, account) = judged(ground, seen, &pulse);
        wrong.extend(verdict.violations);
        wrong.extend(ended(ground));
        wrong.extend(panics(ground));
        report.ops = book.history();
        let collected = collect(ground).await.unwrap_or_else(|error| told(&mut wrong, &error));
        report.replayed = histories(&report.ops, &collected, &minds, shape, &mut wrong);
        (report.excused, report.violations) = (verdict.excused, wrong);
        sum_up(&mut report, ground, account, &pulse);
        Ok(report)
    }
}

/// Nothing, and why.
fn told<T: Default>(wrong: &mut Vec<String>, error: &anyhow::Error) -> T {
    wrong.push(format!("{error:#}"));
    T::default()
}

/// Until the cluster is whole again.
async fn settle(ground: &Ground<'_>, checks: &Checks, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    ground.heal().await?;
    ground.causes.end_all();
    ground.tell("everything is healed");
    let came_whole = async {
        wrong.extend(crashed(ground).await?);
        whole(checks, WHOLE_WITHIN).await
    };
    tokio::select! {
        result = came_whole => result?,
        // A Docker daemon whose containerd was slow to start has ended, and is started again on every machine.
        () = ground.keep_up() => {}
    }
    ground.tell("the cluster is whole");
    wrong.extend(ground.people.missing(&ground.client).await?);
    Ok(())
}

/// The service that fails has used up its attempts, and is removed.
async fn crashed(ground: &Ground<'_>) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + CRASHED_WITHIN;
    let has_ended = |state: &str| ["complete", "failed", "stopped", "rejected", "lost"].contains(&state);
    loop {
        let mut tasks = ground.client.tasks(true).await?;
        tasks.retain(|task| task.service == CRASH);
        let found = attempts::judge_crashes(&tasks);
        if tasks.iter().all(|task| has_ended(&task.state)) && (found.is_empty() || Instant::now() >= deadline) {
            ground.client.remove_service(CRASH).await?;
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "{CRASH} still has attempts after {} s", CRASHED_WITHIN.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

/// With nothing broken, nothing begins, nothing ends, nobody is elected.
async fn calm(ground: &Ground<'_>, witness: &Witness, pulse: &Pulse, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let (before, term, since_ms) = (witness.lives(), ground.client.status().await?.term, now_ms());
    tokio::time::sleep(CALM).await;
    let (after, later) = (witness.lives(), ground.client.status().await?.term);
    if pulse.stalls().iter().any(|stall| stall.at_ms >= since_ms && stall.ms >= STOOD_STILL_MS) {
        ground.tell("the machine stood still in the calm, which is not judged");
        return Ok(());
    }
    if later != term {
        wrong.push(format!("an election without a cause, after everything was healed: term {term} became {later}"));
    }
    // Of an end that was known before, the exact time may be learnt now.
    let is_known = |life: &Life| before.iter().any(|old| (&old.task, old.is_alive()) == (&life.task, life.is_alive()));
    for life in after.iter().filter(|life| !is_known(life)) {
        wrong.push(format!("{} began or ended in the calm after everything was healed", life.describe()));
    }
    Ok(())
}

/// Nobody writes any more, everything is read once more from everybody, and every manager tells its state.
async fn last_words(ground: &Ground<'_>, workload: Workload, book: &crate::op::Book) -> anyhow::Result<Vec<Mind>> {
    workload.finish().await?;
    let members = ground.members();
    let mut calls: Vec<Call> = vec![Call::List { is_stale: false }];
    let names: std::collections::BTreeSet<String> =
        book.history().iter().filter_map(|op| op.call.name().map(str::to_owned)).collect();
    calls.extend(names.into_iter().map(|name| Call::Get { name, is_stale: false }));
    let deadline = Instant::now() + LAST_READS;
    for (nth, call) in calls.into_iter().enumerate() {
        // The list from each of them; services in turn.
        let asked: &[String] = if nth == 0 { &members } else { &members[nth % members.len()..][..1] };
        for manager in asked {
            let at = place(manager)?;
            let (call, answer) = (call.clone(), Answer::Unknown { why: String::new() });
            let op = Op { client: usize::MAX, at, request: None, call, invoked_us: 0, answered_us: 0, answer };
            while ask(&ground.client, book, op.clone()).await.is_unknown() {
                anyhow::ensure!(Instant::now() < deadline, "{manager} does not answer a read after all was healed");
                tokio::time::sleep(POLL).await;
            }
        }
    }
    mind::settled(&ground.client, &members).await
}

fn judged(ground: &Ground<'_>, seen: Vec<Life>, pulse: &Pulse) -> (Verdict, Account) {
    let account = Account {
        lives: seen,
        causes: ground.causes.all(),
        stalls: pulse.stalls(),
        roles: ROLES.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        began_ms: ground.timeline.zero_unix_ms(),
        now_ms: now_ms(),
    };
    let mut verdict = judge::Verdict::default();
    lives::judge(&account, &mut verdict);
    (verdict, account)
}

/// Programs that ended though nothing was done to their disks, and nobody had removed them.
fn ended(ground: &Ground<'_>) -> Vec<String> {
    let (causes, notes) = (ground.causes.all(), ground.notes());
    let is_excused = |ended: &&Ended| {
        let own = causes.iter().filter(|cause| cause.who == ended.name);
        own.filter(|cause| cause.meets((ended.at_ms, ended.at_ms), AFTER_DISK_MS)).any(|cause| match cause.kind {
            Kind::Disk => true,
            Kind::Manager => ended.how == REMOVED,
            _ => false,
        })
    };
    // Docker's daemons are not ours to judge.
    let ours = notes.ended.iter().filter(|ended| !ended.name.starts_with('d'));
    let wrong = ours.filter(|ended| !is_excused(ended));
    wrong.map(|Ended { name, how, .. }| format!("{name} ended by itself ({how})")).collect()
}

/// No program may panic, whatever is done to it.
fn panics(ground: &Ground<'_>) -> Vec<String> {
    let layout = ground.cluster.layout();
    let mut wrong = Vec::new();
    for part in layout.members() {
        let text = std::fs::read(layout.log_path(&part.name())).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        wrong.extend(lines.take(3).map(|line| format!("{} panicked: {line}", part.name())));
    }
    wrong
}

/// The managers end, and their logs and rows are taken.
async fn collect(ground: &Ground<'_>) -> anyhow::Result<Collected> {
    let (layout, mut collected) = (ground.cluster.layout(), Collected::default());
    for name in ground.members() {
        ground.cluster.kill(&name, false).await?;
        collected.add(&name, &layout.data_dir(layout.find(&name)?)).context("after the round")?;
    }
    Ok(collected)
}

/// Judges what clients were told. Returns the last index of the log that was replayed.
fn histories(ops: &[Op], collected: &Collected, minds: &[Mind], shape: &Shape, wrong: &mut Vec<String>) -> Option<u64> {
    wrong.extend(collected.disks.iter().flat_map(|disk| mind::on_disk(disk, minds)));
    let mut findings = Findings::default();
    order::judge(ops, &mut findings);
    keys::judge(ops, &mut findings);
    // With snapshots the beginning of the log is gone.
    let replayed = match collected.gap() {
        _ if shape.has_snapshots || collected.disks.is_empty() => None,
        Some(index) => {
            findings.add(format!("nobody has entry {index}"));
            None
        }
        None => Some(replay::judge_among_others(collected, ops, &|name| !is_key(name), &mut findings)),
    };
    wrong.extend(findings.violations);
    replayed
}

fn sum_up(report: &mut Report, ground: &Ground<'_>, account: Account, pulse: &Pulse) {
    let began_ms = account.began_ms;
    report.starts = account.lives.iter().filter(|life| life.from_ms >= began_ms).count();
    report.lives = account.lives;
    report.attempts = report.ops.len();
    report.done = report.ops.iter().filter(|op| matches!(op.answer, Answer::Done { .. })).count();
    report.stood_still_ms = pulse.worst_ms();
    report.told = ground.timeline.moments().iter().map(ToString::to_string).collect();
    report.told.insert(0, format!("the storm began at {began_ms} (Unix ms)"));
    let notes = ground.notes();
    (report.played, report.missed) = (notes.played.clone(), notes.missed);
}
