//! The cluster that a storm is played on: one fault from its beginning to its end, beside others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use goat_testcluster::cluster::Condition;
use goat_testcluster::witness::now_ms;
use goat_testcluster::{Client, Cluster, Timeline};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::causes::{Causes, Kind};
use super::clocks::Clocks;
use super::fault::{Fault, LEADER};
use super::plan::Strike;
use super::services::People;
use super::weather::Weather;

/// How often it is looked whether a program has ended by itself.
const LOOK: Duration = Duration::from_millis(250);
/// For whoever leads to be known.
const ASK: Duration = Duration::from_secs(1);

/// A program that ended though nobody ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub name: String,
    pub how: String,
    pub at_ms: u64,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Notes {
    /// How often each kind of fault was played.
    pub played: BTreeMap<&'static str, usize>,
    /// Faults that could not be played: whom they were for was busy with another one, or did not run.
    pub missed: usize,
    pub ended: Vec<Ended>,
    /// What has what, at the moment.
    claims: BTreeSet<String>,
    /// Managers that take part.
    pub members: BTreeSet<String>,
}

impl Notes {
    /// Nothing has happened, and these manage.
    pub fn of(members: BTreeSet<String>) -> Self {
        Self { members, ..Self::default() }
    }
}

/// Everything that a storm is played with.
#[derive(Debug)]
pub struct Ground<'a> {
    pub cluster: &'a Cluster,
    pub client: Client,
    pub people: People,
    pub clocks: Clocks,
    pub weather: Weather,
    pub timeline: Timeline,
    pub causes: Causes,
    /// Cancelled when everything is to be healed.
    pub over: CancellationToken,
    pub is_live_restore: bool,
    pub notes: Mutex<Notes>,
}

impl Ground<'_> {
    pub fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().expect("no panic holds it")
    }

    pub fn tell(&self, text: impl Into<String>) {
        self.timeline.tell(text);
    }

    pub fn members(&self) -> Vec<String> {
        self.notes().members.iter().cloned().collect()
    }

    /// One fault of the schedule.
    pub async fn play(&self, nth: usize, strike: &Strike) {
        let due = self.timeline.zero() + Duration::from_millis(strike.at_ms);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = self.over.cancelled() => return,
        }
        let fault = self.resolved(&strike.fault).await;
        let Some(claims) = self.claim(&fault) else {
            self.notes().missed += 1;
            return self.tell(format!("#{nth} not played, busy: {fault}"));
        };
        self.tell(format!("#{nth} {fault}, {} ms", strike.hold_ms));
        let until = Instant::now() + Duration::from_millis(strike.hold_ms);
        match self.inflict(nth, &fault, until).await {
            Ok(()) => {
                *self.notes().played.entry(fault.kind()).or_default() += 1;
                self.tell(format!("#{nth} over"));
            }
            Err(error) => {
                self.notes().missed += 1;
                self.tell(format!("#{nth} not played to its end: {error:#}"));
            }
        }
        self.release(&claims);
    }

    /// With the leader's name for `leader`.
    async fn resolved(&self, fault: &Fault) -> Fault {
        let is_leader = |names: &[String]| names.iter().any(|name| name == LEADER);
        if !is_leader(&fault.claims()) {
            return fault.clone();
        }
        let asked = self.client.with_limits(ASK, ASK).status().await;
        let leader = asked.map(|status| status.leader).unwrap_or_default();
        let leader = if leader.is_empty() { self.members().pop().unwrap_or_default() } else { leader };
        match fault {
            Fault::KillManagers(_) => Fault::KillManagers(vec![leader]),
            Fault::FreezeManager(_) => Fault::FreezeManager(leader),
            Fault::SyncsFail(_) => Fault::SyncsFail(leader),
            Fault::FillManager(_) => Fault::FillManager(leader),
            other => other.clone(),
        }
    }

    pub(super) fn release(&self, claims: &[String]) {
        self.notes().claims.retain(|claim| !claims.contains(claim));
    }

    /// Takes what the fault needs for itself; None: something else has it.
    pub(super) fn claim(&self, fault: &Fault) -> Option<Vec<String>> {
        let mut notes = self.notes();
        let claims = fault.claims();
        if claims.iter().any(|claim| notes.claims.contains(claim)) {
            return None;
        }
        notes.claims.extend(claims.iter().cloned());
        Some(claims)
    }

    async fn inflict(&self, nth: usize, fault: &Fault, until: Instant) -> anyhow::Result<()> {
        match fault {
            Fault::KillManagers(names) => self.kill_managers(names, until).await,
            Fault::FreezeManager(name) => self.freeze(name, Kind::Manager, until).await,
            Fault::SyncsFail(name) => self.fail_syncs(name, until).await,
            Fault::FillManager(name) => self.fill_manager(name, until).await,
            Fault::Transfer | Fault::Demote(_) | Fault::Replace(_) | Fault::Resize => self.change_members(fault).await,
            Fault::KillAgent(name) => self.kill_agent(name, until).await,
            Fault::FreezeAgent(name) => self.freeze(name, Kind::Agent, until).await,
            Fault::KillMachine(name) => self.kill_machine(name, until).await,
            Fault::KillDaemon(name) | Fault::StopDaemon(name) => {
                self.end_daemon(name, matches!(fault, Fault::StopDaemon(_)), until).await
            }
            Fault::FreezeDaemon(name) => self.freeze_daemon(name, until).await,
            Fault::FillDaemon(name) => self.fill_daemon(name, until).await,
            Fault::FillAgent(name) => self.fill_agent(name, until).await,
            Fault::Cut(..) | Fault::Bridge(_) | Fault::Delay(..) => self.bad_weather(nth, fault, until).await,
            Fault::StepClock(name, ms) => self.clocks.step(name, *ms),
            Fault::Drain(name) => self.drain(name, until).await,
            Fault::Scale(_) | Fault::Update | Fault::Recreate => self.people.change(self, fault).await,
        }
    }

    /// Returns at that moment, or as soon as the storm is over.
    pub async fn hold(&self, until: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.over.cancelled() => {}
        }
    }

    /// Starts what ends by itself, as a machine's service manager does, and takes it down. Never returns.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.note_ended(true).await;
        }
    }

    /// Takes down what has ended by itself; `starts`: what no fault has at present is started again.
    pub async fn note_ended(&self, starts: bool) {
        for member in self.cluster.status().await {
            let Condition::Ended(how) = member.condition else { continue };
            let is_spare = member.name.starts_with('m') && !self.notes().members.contains(&member.name);
            if is_spare || self.notes().claims.contains(&member.name) {
                continue;
            }
            self.tell(format!("{} has ended by itself ({how})", member.name));
            if let Some(number) = member.name.strip_prefix('d') {
                let cause = self.causes.begin(Kind::Daemon, &format!("w{number}"));
                self.causes.end(cause);
            }
            self.notes().ended.push(Ended { name: member.name.clone(), how, at_ms: now_ms() });
            if starts && let Err(error) = self.cluster.start(&member.name).await {
                self.tell(format!("{} cannot be started again: {error}", member.name));
            }
        }
    }
}
