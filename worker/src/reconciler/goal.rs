//! What an actor waits for: that its task is to stop, or has ended.

use tokio::sync::watch;

use super::plan::StopReason;
use crate::task::Exit;

/// What the actor is to bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Run,
    Stop { reason: StopReason, grace_ms: u64 },
}

/// A wanted stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub reason: StopReason,
    pub grace_ms: u64,
}

/// Waits until a stop with less grace than `below_ms` is wanted; without a service to want anything, for ever.
pub(super) async fn stop_wanted(goal: &mut watch::Receiver<Goal>, below_ms: u64) -> Stop {
    let is_wanted = |goal: &Goal| matches!(goal, Goal::Stop { grace_ms, .. } if *grace_ms < below_ms);
    let wanted = match goal.wait_for(is_wanted).await {
        Ok(goal) => Some(*goal),
        Err(_) => None,
    };
    match wanted {
        Some(Goal::Stop { reason, grace_ms }) => Stop { reason, grace_ms },
        _ => std::future::pending().await,
    }
}

/// Waits until the task was seen to end; without a service to see it, for ever.
pub(super) async fn seen_exit(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    let seen = match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone(),
        Err(_) => None,
    };
    match seen {
        Some(exit) => exit,
        None => std::future::pending().await,
    }
}
