//! How long each call to the daemon may take. Generous, since a busy daemon is slow and a call that is given up was
//! often done after all; short enough that a dead one is noticed.

use std::future::Future;
use std::time::Duration;

use super::error::Fault;

/// A ping waits for nothing inside the daemon: one that takes so long is a sign that it hangs.
pub(super) const PING: Duration = Duration::from_secs(4);
pub(super) const INSPECT: Duration = Duration::from_secs(15);
pub(super) const LIST: Duration = Duration::from_secs(30);
pub(super) const CREATE: Duration = Duration::from_secs(60);
pub(super) const START: Duration = Duration::from_secs(120);
pub(super) const KILL: Duration = Duration::from_secs(15);
pub(super) const REMOVE: Duration = Duration::from_secs(60);
/// A pull that makes no progress for so long is given up. While it makes progress it may take any time.
pub(super) const PULL_STALL: Duration = Duration::from_secs(120);
/// A pull goes on beside a daemon that does not answer pings for less than this.
pub(super) const PULL_PATIENCE: Duration = Duration::from_secs(15);

/// The call's result; a call that takes longer counts as unanswered.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(Fault::from),
        Err(_) => Err(Fault::timed_out(limit)),
    }
}
