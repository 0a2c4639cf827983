//! What happens at the daemon: its event stream, and behind it a listing of everything, since events can be missed; and
//! beside both a ping, since a daemon that hangs or is shutting down keeps its streams open.
//!
//! ```text
//! down --answers--> up: events since just before, a listing at once, another every 10 s and after each silence
//!  ^                 |
//!  |                 +-- a ping is refused or not answered: down, and up again; the streams go on, and so do events
//!  +-- stream ends --+
//! ```
//! A daemon that is told to end refuses connections at once and then stops its containers, unless it has live-restore;
//! one that was killed stops them when it comes back. Neither is the doing of what ran in them, and neither is told as
//! if it were: see `cut_short`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters as query;
use futures::StreamExt;
use goat_core::model::Driver;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use super::super::{Error, Event, Found, FoundState, RUNTIME_DOWN, Runtime};
use super::calls::{self, within};
use super::error::Fault;
use super::happened::{Action, Happened, History};
use super::{DockerRuntime, labels};
use crate::clock;
use crate::task::Exit;

const RESYNC: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(1);
const FIRST_RETRY_MS: u64 = 100;
const MAX_RETRY_MS: u64 = 2_000;
/// Events of so long before the stream was opened are asked for too. Seeing one twice is fine.
const OVERLAP_S: u64 = 2;
const RESTARTED: &str = "the Docker daemon has restarted without live-restore";

type Events = mpsc::Sender<(Driver, Event)>;

/// Nobody listens any more.
struct Closed;

pub(super) async fn watch(runtime: &DockerRuntime, events: Events) {
    let mut retry_ms = FIRST_RETRY_MS;
    let mut was_down = false;
    loop {
        let connected = connected(runtime, &events, was_down).await;
        runtime.outage.set_connected(false);
        let problem = match connected {
            Ok(Some(problem)) => {
                // It was up and has gone away; it may be back at once.
                retry_ms = FIRST_RETRY_MS;
                problem
            }
            Ok(None) => return,
            Err(error) => {
                retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
                error.to_string()
            }
        };
        was_down = true;
        runtime.outage.set_answers(false);
        if tell(&events, Event::Down { problem }).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))).await;
    }
}

async fn tell(events: &Events, event: Event) -> Result<(), Closed> {
    events.send((Driver::Docker, event)).await.map_err(|_| Closed)
}

/// Tells until the connection is lost; then why. None where nobody listens any more.
async fn connected(runtime: &DockerRuntime, events: &Events, was_down: bool) -> Result<Option<String>, Error> {
    runtime.ping().await?;
    let client = runtime.client()?;
    let stops_containers = was_down && !has_live_restore(&client).await?;
    let stopped_until_ms = stops_containers.then(clock::now_ms);
    let watch =
        Watch { stopped_until_ms, runtime, client, events, resync: Notify::new(), is_ending: AtomicBool::new(false) };
    runtime.outage.set_connected(true);
    if watch.up().await.is_err() {
        return Ok(None);
    }
    let ended = tokio::select! {
        ended = watch.containers() => ended,
        ended = watch.images() => ended,
        Closed = watch.resyncs(stops_containers) => None,
        Closed = watch.pings() => None,
    };
    Ok(ended)
}

/// Whether containers run on while the daemon does not.
async fn has_live_restore(client: &Docker) -> Result<bool, Error> {
    let info = within(calls::INSPECT, client.info()).await.map_err(Fault::general)?;
    Ok(info.live_restore_enabled.unwrap_or(false))
}

/// One connection to the daemon.
struct Watch<'a> {
    /// What ended before this was ended by the daemon as it came back (Unix ms): its events are told like any others.
    stopped_until_ms: Option<u64>,
    runtime: &'a DockerRuntime,
    client: Docker,
    events: &'a Events,
    /// A listing is due now.
    resync: Notify,
    /// It has told of an exit, and did not answer right after.
    is_ending: AtomicBool,
}

impl Watch<'_> {
    async fn up(&self) -> Result<(), Closed> {
        self.runtime.outage.set_answers(true);
        self.is_ending.store(false, Ordering::Relaxed);
        self.resync.notify_one();
        tell(self.events, Event::Up).await
    }

    async fn down(&self, problem: String) -> Result<(), Closed> {
        self.runtime.outage.set_answers(false);
        tell(self.events, Event::Down { problem }).await
    }

    async fn pings(&self) -> Closed {
        loop {
            tokio::time::sleep(PING_EVERY).await;
            let told = match self.runtime.knock().await {
                Ok(()) if self.runtime.outage.answers() => Ok(()),
                Ok(()) => self.up().await,
                Err(error) => self.down(error.to_string()).await,
            };
            if told.is_err() {
                return Closed;
            }
        }
    }

    fn stream(
        &self,
        filters: HashMap<&str, Vec<String>>,
    ) -> impl futures::Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin {
        let since = (clock::now_ms() / 1_000).saturating_sub(OVERLAP_S).to_string();
        let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        self.client.events(Some(options)).boxed()
    }

    async fn containers(&self) -> Option<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type", words(&["container"])),
            ("event", words(&Action::WORDS)),
            ("label", vec![labels::of_node(self.runtime.node)]),
        ]);
        let mut stream = self.stream(filters);
        let mut history = History::default();
        loop {
            match stream.next().await {
                Some(Ok(message)) => {
                    if let Some(happened) = Happened::read(message) {
                        self.happened(&mut history, happened).await.ok()?;
                    }
                }
                Some(Err(error)) => return ended(Some(error)),
                None => return ended(None),
            }
        }
    }

    async fn happened(&self, history: &mut History, happened: Happened) -> Result<(), Closed> {
        let Happened { task, container_id, action, at_ms } = happened;
        match action {
            Action::Die { code } => {
                let exit = history.exit(&container_id, code, at_ms);
                let exit = self.judged(exit).await?;
                tell(self.events, Event::Exited { task, container_id: Some(container_id), exit }).await
            }
            Action::Start => {
                history.forget(&container_id);
                tell(self.events, Event::Started { task, container_id }).await
            }
            Action::Update => {
                if let Err(error) = self.runtime.forbid_restarts(&container_id).await {
                    warn!(container_id, %error, "the restart policy of a changed container could not be looked at");
                }
                Ok(())
            }
            action => {
                history.note(container_id, &action, at_ms);
                Ok(())
            }
        }
    }

    /// An exit told by a daemon that answers no more is the daemon's doing: it is shutting down. One that hung and goes on
    /// tells what it missed, and answers.
    async fn judged(&self, exit: Exit) -> Result<Exit, Closed> {
        if self.stopped_until_ms.is_some_and(|until_ms| exit.at_ms <= until_ms) {
            return Ok(Exit { failure: cut_short(RESTARTED), ..exit });
        }
        if !self.is_ending.load(Ordering::Relaxed) {
            match self.runtime.knock().await {
                Ok(()) => return Ok(exit),
                Err(error) => {
                    self.is_ending.store(true, Ordering::Relaxed);
                    self.down(error.to_string()).await?;
                }
            }
        }
        Ok(Exit { failure: cut_short("the Docker daemon was shutting down"), ..exit })
    }

    async fn images(&self) -> Option<String> {
        let mut stream = self.stream(HashMap::from([("type", vec!["image".to_owned()])]));
        loop {
            match stream.next().await {
                Some(Ok(_)) => tell(self.events, Event::ImagesChanged).await.ok()?,
                Some(Err(error)) => return ended(Some(error)),
                None => return ended(None),
            }
        }
    }

    /// `stops_containers`: whether what has ended by the first listing was ended by the daemon as it came back.
    async fn resyncs(&self, mut stops_containers: bool) -> Closed {
        loop {
            // Slow is not gone, and what is gone is seen by pings and streams.
            let _ = tokio::time::timeout(RESYNC, self.resync.notified()).await;
            if !self.runtime.outage.answers() {
                continue;
            }
            let asked = Instant::now();
            match self.runtime.list().await {
                Ok(mut found) => {
                    debug!(containers = found.len(), "listed containers");
                    self.learn(&found).await;
                    if std::mem::take(&mut stops_containers) {
                        found.iter_mut().for_each(stopped_by_daemon);
                    }
                    if tell(self.events, Event::Resync { asked, found }).await.is_err() {
                        return Closed;
                    }
                }
                Err(error) => warn!(%error, "containers could not be listed"),
            }
        }
    }

    async fn learn(&self, found: &[Found]) {
        let mut running = Vec::new();
        for container in found.iter().filter(|found| found.state != FoundState::Created) {
            self.runtime.outage.start_answered(&container.container_id);
            if matches!(container.state, FoundState::Running { .. }) {
                running.push(container.container_id.clone());
            }
        }
        self.runtime.outage.sight.prove(running).await;
    }
}

fn ended(result: Option<bollard::errors::Error>) -> Option<String> {
    Some(result.map_or_else(|| "the event stream ended".into(), |error| format!("the event stream broke: {error}")))
}

/// Why a task ended that did not end by itself.
fn cut_short(problem: &str) -> Option<(String, String)> {
    Some((RUNTIME_DOWN.to_owned(), format!("its container was stopped: {problem}")))
}

fn stopped_by_daemon(found: &mut Found) {
    if found.state == FoundState::Ended(None) {
        let failure = cut_short(RESTARTED);
        found.state = FoundState::Ended(Some(Exit { failure, ..Exit::unseen() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::meta;

    #[test]
    fn what_a_returning_daemon_stopped_is_told_as_such() {
        let found = |state| Found { meta: meta(1), container_id: "c".into(), state };
        let mut ended = found(FoundState::Ended(None));
        stopped_by_daemon(&mut ended);
        let FoundState::Ended(Some(exit)) = ended.state else { panic!("it has ended") };
        assert_eq!(exit.failure.expect("with a reason").0, "runtime-down");
        let state = FoundState::Running { started_at_ms: 1, is_paused: false };
        let mut running = found(state.clone());
        stopped_by_daemon(&mut running);
        assert_eq!(running, found(state));
    }
}
