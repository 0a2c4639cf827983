//! What drills look at while they play: lives by the witness, leaders and writes by the managers.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::judge::ended_between;
use super::role::Role;
use super::stage::Stage;
use crate::error::Error;
use crate::layout::Member;
use crate::witness::{Life, ended_ms, now_ms, refilled_ms};

pub(super) const WITHIN: Duration = Duration::from_secs(90);
const WHOLE: Duration = Duration::from_secs(120);
/// Between looks at everything.
const LOOK: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(10);
const ASK: Duration = Duration::from_secs(2);

impl Stage {
    /// Waits until the cluster is whole.
    pub async fn whole(&self) -> Result<(), Error> {
        let deadline = Instant::now() + WHOLE;
        loop {
            let why = match self.checks.unwhole().await {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => why,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(Error::failed(format!("the cluster is not whole after {} s: {why}", WHOLE.as_secs())));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells what was wrong so far, for a drill that ends early.
    pub(super) fn tell_wrong(&self) {
        for wrong in &self.wrong {
            self.timeline.tell(format!("WRONG {wrong}"));
        }
    }

    pub(super) fn service(&self, role: Role) -> &str {
        self.services.iter().find(|(of, _)| *of == role).map_or("", |(_, name)| name)
    }

    /// The lives of one service so far.
    pub(super) fn lives_of(&self, role: Role) -> Result<Vec<Life>, Error> {
        let service = self.service(role);
        Ok(self.witness()?.lives().into_iter().filter(|life| life.service == service).collect())
    }

    /// Milliseconds from the last start of the clock.
    pub(super) fn since_ms(&self, unix_ms: u64) -> f64 {
        unix_ms.saturating_sub(self.timeline.zero_unix_ms()) as f64
    }

    /// The worker with the single instance; it must have tasks of the other services too.
    pub(super) fn holder(&self) -> Result<String, Error> {
        let nodes_of = |role| -> Result<BTreeSet<String>, Error> {
            let lives = self.lives_of(role)?.into_iter();
            Ok(lives.filter(Life::is_alive).map(|life| life.node).collect())
        };
        let (keep, stop, one) = (nodes_of(Role::Keep)?, nodes_of(Role::Stop)?, nodes_of(Role::Isolated)?);
        let holder = one.into_iter().find(|node| keep.contains(node) && stop.contains(node));
        holder.ok_or_else(|| Error::failed("no worker has tasks of all three services; repeat with more workers"))
    }

    /// All members but those.
    pub(super) fn others(&self, but: &[String]) -> Vec<String> {
        let members = self.remote().layout().members().map(Member::name);
        members.filter(|name| !but.contains(name)).collect()
    }

    pub(super) fn managers(&self) -> Vec<String> {
        self.others(&[]).into_iter().filter(|name| name.starts_with('m')).collect()
    }

    pub(super) fn workers(&self) -> Vec<String> {
        self.others(&[]).into_iter().filter(|name| name.starts_with('w')).collect()
    }

    /// Waits until all slots that were on the nodes when the clock was started run elsewhere; since then, in ms.
    pub(super) async fn replaced(&self, role: Role, nodes: &[String]) -> Result<f64, Error> {
        let zero_ms = self.timeline.zero_unix_ms();
        let at_ms =
            self.witnessed(role, "do not all run elsewhere", |lives| refilled_ms(lives, nodes, zero_ms)).await?;
        self.timeline.tell_unix(at_ms, format!("all slots run elsewhere ({role})"));
        Ok(self.since_ms(at_ms))
    }

    /// Waits until all that ran on the nodes when the clock was started has ended; since then, in ms.
    pub(super) async fn stopped(&self, role: Role, nodes: &[String]) -> Result<f64, Error> {
        let zero_ms = self.timeline.zero_unix_ms();
        let at_ms = self.witnessed(role, "have not all ended", |lives| ended_ms(lives, nodes, zero_ms)).await?;
        self.timeline.tell_unix(at_ms, format!("the old ones have ended ({role})"));
        Ok(self.since_ms(at_ms))
    }

    async fn witnessed(&self, role: Role, not_yet: &str, ask: impl Fn(&[Life]) -> Option<u64>) -> Result<u64, Error> {
        let service = self.service(role);
        let own = |lives: &[Life]| lives.iter().filter(|life| life.service == service).cloned().collect::<Vec<_>>();
        let answer = self.witness()?.until(WITHIN, |lives| ask(&own(lives))).await;
        answer.ok_or_else(|| {
            Error::failed(format!("after {} s the tasks of {service} ({role}) {not_yet}", WITHIN.as_secs()))
        })
    }

    /// Since the start of the clock until the next write was accepted, in ms.
    pub(super) async fn accepted(&self, since: Instant) -> Result<f64, Error> {
        let at = self.recorder()?.first_after(since, WITHIN).await?;
        self.timeline.tell_at(at, "first write accepted");
        Ok((at - since).as_secs_f64() * 1e3)
    }

    /// Asks all managers until one of them knows a leader of a later term; that and its term.
    pub(super) async fn next_leader(&self, old: &str, term: u64) -> Result<(String, u64), Error> {
        let client = self.client().with_limits(ASK, ASK);
        let deadline = Instant::now() + WITHIN;
        loop {
            // Whoever answers first: one that misses another manager takes its time.
            let mut asked: FuturesUnordered<_> = (0..client.managers()).map(|at| client.status_of(at)).collect();
            while let Some(answer) = asked.next().await {
                if let Ok(status) = answer
                    && status.term > term
                    && !status.leader.is_empty()
                    && status.leader != old
                {
                    self.timeline.tell(format!("{} leads, term {}", status.leader, status.term));
                    return Ok((status.leader, status.term));
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::failed(format!("no manager leads {} s after {old} was lost", WITHIN.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the node shows the condition, or does not show it any more; since then, in ms.
    pub(super) async fn shows(
        &self,
        node: &str,
        condition: &str,
        is_shown: bool,
        since: Instant,
    ) -> Result<f64, Error> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let nodes = self.client().nodes().await?;
            let inventory = nodes.into_iter().find(|found| found.name == node).and_then(|found| found.inventory);
            let conditions = inventory.map(|inventory| inventory.conditions).unwrap_or_default();
            if conditions.iter().any(|shown| shown == condition) == is_shown {
                self.timeline.tell(format!("{node} shows {}{condition}", if is_shown { "" } else { "no more " }));
                return Ok(since.elapsed().as_secs_f64() * 1e3);
            }
            if Instant::now() >= deadline {
                let not = if is_shown { "does not show" } else { "still shows" };
                return Err(Error::failed(format!("{node} {not} {condition} after {} s", WITHIN.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What counts against a drill in which `keep` tasks on the nodes had to run on since the clock was started.
    pub(super) fn must_have_kept(&mut self, nodes: &[String]) -> Result<(), Error> {
        let span = (self.timeline.zero_unix_ms(), now_ms());
        let found = ended_between(&self.lives_of(Role::Keep)?, self.service(Role::Keep), nodes, span);
        self.wrong.extend(found);
        Ok(())
    }
}
