//! Liveness during a disturbance that must not stop anything: writes are accepted, leases are renewed, sessions go on.

use std::time::Duration;

use tokio::time::Instant;

use crate::drill::stage::Stage;
use crate::error::Error;
use crate::layout::Member;
use crate::metrics::Page;

/// A worker sends a heartbeat twice a second, and the leader may grant several at once. Half of them must be granted.
const MIN_GRANTS_PER_S: f64 = 1.0;
/// From the end of a disturbance until every slot has its one running task and every member its place.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);

/// What a disturbance may cost.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Longest time without an accepted write.
    pub write_gap: Duration,
}

/// Counters of all members at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    grants: f64,
    expiries: f64,
    sessions: f64,
}

impl Counters {
    /// Those of a member that does not run begin at zero when it starts; `must_run`: every member has to answer.
    async fn read(stage: &Stage, must_run: bool) -> Result<Self, Error> {
        let mut counters = Self::default();
        let layout = stage.remote().layout();
        for member in layout.first_managers().chain((1..=layout.workers).map(Member::Worker)) {
            let page = match Page::read(layout.http(member)).await {
                Err(_) if !must_run => continue,
                page => page?,
            };
            counters.grants += page.sum("goat_dispatcher_grants_total");
            counters.expiries += page.sum("goat_worker_lease_expiries_total");
            counters.sessions += page.sum("goat_worker_sessions_total");
        }
        Ok(counters)
    }
}

/// A period that is watched.
#[derive(Debug)]
pub struct Period {
    what: String,
    began: Instant,
    term: u64,
    counters: Counters,
}

impl Period {
    /// Begins now. `what`: the disturbance, for messages.
    pub async fn begin(stage: &Stage, what: impl Into<String>) -> Result<Self, Error> {
        let counters = Counters::read(stage, false).await?;
        Ok(Self { what: what.into(), began: Instant::now(), term: term(stage).await, counters })
    }

    /// Ends now: what was not live in it counts against the drill. Returns the longest time without an accepted write, in ms.
    pub async fn end(self, stage: &mut Stage, allowed: Allowed) -> Result<f64, Error> {
        let Self { what, began, .. } = self;
        let took = began.elapsed();
        let recorder = stage.recorder()?;
        let (writes, gap) = (recorder.accepted_since(began), recorder.longest_gap(began));
        let now = Counters::read(stage, true).await?;
        let grants = now.grants - self.counters.grants;
        let expiries = now.expiries - self.counters.expiries;
        let sessions = now.sessions - self.counters.sessions;
        let elections = term(stage).await.saturating_sub(self.term);
        stage.timeline.tell(format!(
            "{what}: in {:.0} s {writes} writes accepted, longest gap {} ms, {grants} leases renewed, {expiries} lapsed, \
             {sessions} new sessions, {elections} elections",
            took.as_secs_f64(),
            gap.as_millis()
        ));
        let expected = took.as_secs_f64() * f64::from(stage.remote().layout().workers) * MIN_GRANTS_PER_S;
        let mut wrong = Vec::new();
        if gap > allowed.write_gap {
            let most = allowed.write_gap.as_millis();
            wrong.push(format!("no write was accepted for {} ms, at most {most} ms are allowed", gap.as_millis()));
        }
        if grants < expected {
            wrong.push(format!("leases were renewed {grants} times, at least {expected:.0} times were expected"));
        }
        if expiries > 0.0 {
            wrong.push(format!("leases of workers lapsed {expiries} times"));
        }
        if sessions > 0.0 {
            wrong.push(format!("workers began {sessions} new sessions"));
        }
        if elections > 0 {
            wrong.push(format!("{elections} elections without a cause"));
        }
        stage.wrong.extend(wrong.into_iter().map(|wrong| format!("{what}: {wrong}")));
        Ok(gap.as_secs_f64() * 1e3)
    }
}

/// The highest term that any manager knows.
async fn term(stage: &Stage) -> u64 {
    let client = stage.client();
    let asked = (0..client.managers()).map(|at| client.status_of(at));
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().filter_map(Result::ok).map(|status| status.term).max().unwrap_or(0)
}

impl Stage {
    /// After a disturbance: all slots must run and all members be in place within a stated time. Returns how long it took, in ms.
    pub(super) async fn whole_again(&mut self, what: &str) -> Result<f64, Error> {
        let ended = Instant::now();
        self.whole().await?;
        let took = ended.elapsed();
        if took > WHOLE_WITHIN {
            let (took, most) = (took.as_millis(), WHOLE_WITHIN.as_millis());
            self.wrong
                .push(format!("{what}: the cluster was whole again after {took} ms, at most {most} ms are allowed"));
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}
