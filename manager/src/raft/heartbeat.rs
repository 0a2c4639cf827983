//! When the leader sends heartbeats: at each interval, whatever the deadline of the last one is.

use std::time::Duration;

use openraft::ServerState;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::MissedTickBehavior;

use super::Raft;

/// Sends heartbeats while this manager leads, until it is cancelled or Raft ends. A peer whose last heartbeat is still on
/// its way gets the next one when that is answered.
pub(super) async fn run(raft: Raft, interval: Duration) {
    let mut metrics = raft.server_metrics();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_leader = metrics.borrow_and_update().state == ServerState::Leader;
        if is_leader {
            ticks.tick().await;
            if raft.trigger().heartbeat().await.is_err() {
                return;
            }
        } else if metrics.changed().await.is_err() {
            return;
        }
    }
}
