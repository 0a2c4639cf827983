//! Waits for the effect of a change that a manager has accepted, and shows how far it is.
//!
//! Events only wake it up; what counts is what a list says afterwards, so that a lost event or a change of leader costs a
//! second at most. What it waits for is a [`Goal`]'s.

mod display;
mod drain;
mod judge;
mod removal;
mod service;
pub mod view;

use std::convert::Infallible;
use std::time::Duration;

use goat_proto::v1::WatchEventsRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Client;
use crate::exit::{Exit, Failure, say};

pub use display::Display;
pub use drain::Drained;
pub use judge::{Change, ChangeKind};
pub use removal::Removed;
pub use service::Converged;

/// Between two looks at the least, and this many times as long as a look takes: a large service must not be listed
/// without a pause.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
const PAUSE_PER_LOOK: u32 = 3;
/// Between two looks at the most: the net below the events.
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// Before the events are asked for again.
const REOPEN_PAUSE: Duration = Duration::from_millis(300);

/// What a look has shown.
#[derive(Debug)]
pub enum Verdict {
    Reached,
    /// Look again when something happens, or after so long.
    NotYet(Duration),
    Failed(Failure),
}

/// What is waited for.
pub trait Goal {
    /// Whose events are worth a look: a service, or the empty text for all.
    fn events_of(&self) -> &str;

    /// Lists what matters, and shows it.
    async fn look(&mut self, client: &Client, display: &mut Display) -> Result<Verdict, Failure>;

    /// What is missing, for the error when the time is up.
    fn missing(&self) -> String;

    /// What goes on without this command, for the one who leaves.
    fn goes_on(&self) -> String;
}

/// How a wait ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    Reached,
    /// Ctrl-C: the change stays, and nobody waits for it.
    Detached,
}

/// Waits until the goal is reached, cannot be reached, or `within` is over. `since_index`: that of the change.
pub async fn wait(
    client: &Client,
    goal: &mut impl Goal,
    within: Duration,
    since_index: u64,
    quiet: bool,
) -> Result<Waited, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let deadline = Instant::now() + within;
    let wake = Notify::new();
    let events_of = goal.events_of().to_owned();
    let mut display = Display::new(quiet);
    client.expect_interruptions();
    let outcome = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(Waited::Detached),
        outcome = look_until_settled(client, goal, &mut display, &wake) => outcome,
        () = sleep_until(deadline) => Err(None),
        never = wake_on_events(client, &events_of, since_index, &wake) => match never {},
    };
    display.finish();
    match outcome {
        Ok(Waited::Detached) => {
            say(&format!("detached; {}", goal.goes_on()));
            Ok(Waited::Detached)
        }
        Ok(Waited::Reached) => Ok(Waited::Reached),
        Err(Some(failure)) if failure.exit == Exit::Unreachable => {
            Err(failure.with_hint(format!("the change was accepted; {}", goal.goes_on())))
        }
        Err(Some(failure)) => Err(failure),
        Err(None) => {
            let message = format!("timed out after {}: {}", humantime::format_duration(within), goal.missing());
            Err(Failure::new(Exit::TimedOut, message).with_hint(goal.goes_on()))
        }
    }
}

async fn look_until_settled(
    client: &Client,
    goal: &mut impl Goal,
    display: &mut Display,
    wake: &Notify,
) -> Result<Waited, Option<Failure>> {
    loop {
        let started = Instant::now();
        let again_in = match goal.look(client, display).await? {
            Verdict::Reached => return Ok(Waited::Reached),
            Verdict::Failed(failure) => return Err(Some(failure)),
            Verdict::NotYet(again_in) => again_in.min(PAUSE_MOST),
        };
        let pause = PAUSE_LEAST.max(started.elapsed() * PAUSE_PER_LOOK);
        sleep_until(started + pause).await;
        tokio::select! {
            () = wake.notified() => {}
            () = sleep(again_in.saturating_sub(pause)) => {}
        }
    }
}

/// Keeps a stream of events open over all managers. Where there is none, the looks go on without.
async fn wake_on_events(client: &Client, service: &str, since_index: u64, wake: &Notify) -> Infallible {
    let request = WatchEventsRequest { since_index, follow: true, service: service.to_owned(), tail: None };
    loop {
        let opened = client.stream(request.clone(), async |control, request| control.watch_events(request).await).await;
        if let Ok(mut events) = opened {
            wake.notify_one();
            while let Ok(Some(_)) = events.message().await {
                wake.notify_one();
            }
        }
        sleep(REOPEN_PAUSE).await;
    }
}
