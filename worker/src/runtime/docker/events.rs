//! What happens at the daemon: its event stream, and behind it a listing of everything, since events can be missed.
//!
//! ```text
//! down --ping answers--> up: events since just before, a listing at once, another every 10 s and after each gap
//!  ^                      |
//!  +--- stream ends ------+
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters as query;
use futures::StreamExt;
use goat_core::model::Driver;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::super::{Error, Event, Runtime};
use super::{DockerRuntime, labels};
use crate::clock;
use crate::task::Exit;

const RESYNC: Duration = Duration::from_secs(10);
const FIRST_RETRY_MS: u64 = 100;
const MAX_RETRY_MS: u64 = 2_000;
/// Events of so long before the stream was opened are asked for too. Seeing one twice is fine.
const OVERLAP_S: u64 = 2;

type Events = mpsc::Sender<(Driver, Event)>;

/// Nobody listens any more.
struct Closed;

pub(super) async fn watch(runtime: &DockerRuntime, events: Events) {
    let mut retry_ms = FIRST_RETRY_MS;
    loop {
        let told = match connected(runtime, &events).await {
            Ok(Some(problem)) => {
                // It was up and has gone away; it may be back at once.
                retry_ms = FIRST_RETRY_MS;
                tell(&events, Event::Down { problem }).await
            }
            Ok(None) => Ok(()),
            Err(error) => {
                retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
                tell(&events, Event::Down { problem: error.to_string() }).await
            }
        };
        if told.is_err() || events.is_closed() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))).await;
    }
}

async fn tell(events: &Events, event: Event) -> Result<(), Closed> {
    events.send((Driver::Docker, event)).await.map_err(|_| Closed)
}

/// Tells until the connection is lost; then why. None where nobody listens any more.
async fn connected(runtime: &DockerRuntime, events: &Events) -> Result<Option<String>, Error> {
    runtime.ping().await?;
    let client = runtime.client()?;
    if tell(events, Event::Up).await.is_err() {
        return Ok(None);
    }
    tokio::select! {
        problem = containers(runtime, &client, events) => Ok(problem),
        problem = images(&client, events) => Ok(problem),
        result = resyncs(runtime, events) => result.map(|Closed| None),
    }
}

fn stream(
    client: &Docker,
    filters: HashMap<&str, Vec<String>>,
) -> impl futures::Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin {
    let since = (clock::now_ms() / 1_000).saturating_sub(OVERLAP_S).to_string();
    let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
    client.events(Some(options)).boxed()
}

fn ended(result: Option<bollard::errors::Error>) -> Option<String> {
    Some(result.map_or_else(|| "the event stream ended".into(), |error| format!("the event stream broke: {error}")))
}

async fn containers(runtime: &DockerRuntime, client: &Docker, events: &Events) -> Option<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = HashMap::from([
        ("type", words(&["container"])),
        ("event", words(&["die"])),
        ("label", vec![labels::of_node(runtime.node)]),
    ]);
    let mut stream = stream(client, filters);
    loop {
        match stream.next().await {
            Some(Ok(message)) => {
                let Some(event) = exited(message) else { continue };
                tell(events, event).await.ok()?;
            }
            Some(Err(error)) => return ended(Some(error)),
            None => return ended(None),
        }
    }
}

fn exited(message: EventMessage) -> Option<Event> {
    let at_ms = message.time_nano.map_or_else(clock::now_ms, |nanos| nanos.max(0) as u64 / 1_000_000);
    let attributes = message.actor?.attributes?;
    let task = labels::read_task(&attributes)?;
    let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
    Some(Event::Exited { task, exit: Exit { code, is_oom: false, at_ms, failure: None } })
}

async fn images(client: &Docker, events: &Events) -> Option<String> {
    let mut stream = stream(client, HashMap::from([("type", vec!["image".to_owned()])]));
    loop {
        match stream.next().await {
            Some(Ok(_)) => tell(events, Event::ImagesChanged).await.ok()?,
            Some(Err(error)) => return ended(Some(error)),
            None => return ended(None),
        }
    }
}

async fn resyncs(runtime: &DockerRuntime, events: &Events) -> Result<Closed, Error> {
    let mut due = tokio::time::interval(RESYNC);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let asked = Instant::now();
        match runtime.list().await {
            Ok(found) => {
                debug!(containers = found.len(), "listed containers");
                if tell(events, Event::Resync { asked, found }).await.is_err() {
                    return Ok(Closed);
                }
            }
            // Slow is not gone: events still come, and the next listing is due soon.
            Err(error) => {
                warn!(%error, "containers could not be listed");
                runtime.ping().await?;
            }
        }
    }
}
