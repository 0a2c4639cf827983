//! What systemd is told where it has started this program as `Type=notify`; anywhere else nothing happens.
//!
//! ```text
//! status ─► run: READY=1 and STATUS= with the first answer ─► STATUS= when it changes
//!                WATCHDOG=1 at half the interval, with answers only          ─► stopping: STOPPING=1
//! ```
//! A program that does not answer its own question is not vouched for: systemd then kills it and starts it again.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

/// What children must not inherit: the word of another process than systemd's is not to count as the program's.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// So often the program is asked how it is.
const LOOK: Duration = Duration::from_secs(1);
/// For its answer, where no watchdog waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether anybody wants to hear.
pub fn is_wanted() -> bool {
    std::env::var_os(VARIABLES[0]).is_some()
}

/// One line for `systemctl status`, before the program is ready as well.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// The program has begun to stop: the watchdog waits for no more.
pub fn stopping(line: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(line)]);
}

/// Says that the program is ready once it answers, then how it is and that it lives, until this is dropped. `look` gives the
/// line for `systemctl status`, and None where a part of the program does not answer.
pub async fn run<Look, Answer>(look: Look)
where
    Look: Fn() -> Answer + Send,
    Answer: Future<Output = Option<String>> + Send,
{
    if !is_wanted() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let half = watchdog.map(|interval| interval / 2);
    // Late, and still before the interval has passed.
    let within = watchdog.map_or(ANSWER_WITHIN, |interval| interval / 4);
    let period = half.map_or(LOOK, |half| half.min(LOOK));
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut beaten, mut has_complained) = (None, None::<Instant>, false);
    loop {
        looks.tick().await;
        let Some(line) = timeout(within, look()).await.ok().flatten() else {
            if !std::mem::replace(&mut has_complained, true) {
                warn!("a part of this program does not answer: systemd is not told that it lives");
            }
            continue;
        };
        has_complained = false;
        let mut states = Vec::new();
        if told.is_none() {
            states.push(NotifyState::Ready);
        }
        if told.as_ref() != Some(&line) {
            states.push(NotifyState::Status(&line));
        }
        if half.is_some_and(|half| beaten.is_none_or(|beaten| beaten.elapsed() + period / 2 >= half)) {
            states.push(NotifyState::Watchdog);
            beaten = Some(Instant::now());
        }
        tell(&states);
        told = Some(line);
    }
}

fn tell(states: &[NotifyState]) {
    if states.is_empty() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not told");
    }
}
