//! Runtimes that do not answer: the node says so at once, and tasks wait for them for a bounded time.
//!
//! What runs on is left alone however long that takes. After the bounded time, what certainly does not run is reported
//! as failed, so that its slot runs elsewhere; what cannot be known stays as it is.

use std::collections::BTreeMap;
use std::time::Instant;

use goat_core::model::Driver;
use tracing::{info, warn};

use super::{ActorHandle, Service};
use crate::runtime::{Found, FoundState, RUNTIME_DOWN};
use crate::task::Exit;

/// Since when runtimes do not answer.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<Driver, Instant>);

impl Service {
    pub(super) fn runtime_up(&mut self, driver: Driver) {
        let outage = self.outages.0.remove(&driver);
        self.parts.health.send_modify(|health| {
            health.images_version += 1;
            health.down.remove(&driver);
        });
        if let Some(since) = outage {
            info!(?driver, down_ms = since.elapsed().as_millis() as u64, "the runtime answers");
        }
    }

    /// Told again and again until it answers.
    pub(super) fn runtime_down(&mut self, driver: Driver, problem: &str) {
        self.parts.health.send_if_modified(|health| health.down.insert(driver));
        let since = *self.outages.0.entry(driver).or_insert_with(|| {
            warn!(?driver, error = problem, "the runtime is down");
            Instant::now()
        });
        if since.elapsed() >= self.parts.runtime_down_after {
            self.look_for_dead(driver);
        }
    }

    /// Has the tasks that certainly do not run told of as ended.
    fn look_for_dead(&self, driver: Driver) {
        let Some(runtime) = self.parts.runtimes.get(driver).cloned() else {
            return;
        };
        let live = self.known.values().filter(|known| known.record.meta.driver == driver);
        let waiting = |actor: &&ActorHandle| actor.exit.borrow().is_none();
        let mut asked: BTreeMap<String, _> = live
            .filter_map(|known| {
                let actor = known.actor.as_ref().filter(waiting)?;
                Some((known.record.container_id.clone()?, actor.exit.clone()))
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        self.parts.tasks.spawn("look-for-dead", async move {
            for container_id in runtime.certainly_ended(asked.keys().cloned().collect()).await {
                let Some(exit) = asked.remove(&container_id) else { continue };
                warn!(container_id, "a container has ended while the runtime is down");
                exit.send_if_modified(|told| told.is_none().then(|| *told = Some(unwitnessed())).is_some());
            }
        });
    }

    /// Whether it is of a task that counts as failed because its runtime was down, and has not ended: the runtime has
    /// done after all what it was asked for, or somebody else has.
    pub(super) fn is_belated(&self, found: &Found) -> bool {
        let known = self.known.get(&found.meta.task).filter(|known| known.actor.is_none());
        let is_written_off = known.is_some_and(|known| known.record.reason.as_deref() == Some(RUNTIME_DOWN));
        is_written_off && !matches!(found.state, FoundState::Ended(_))
    }
}

fn unwitnessed() -> Exit {
    let problem = "its container has ended while its runtime was down, nobody saw how";
    Exit { failure: Some((RUNTIME_DOWN.into(), problem.into())), ..Exit::unseen() }
}
