//! What systemd hears of a manager: when it serves, whom it follows, and that Raft and what applies its log still answer.
//!
//! Ready is a manager that listens, has its seat in the group and knows a leader. One that waits for others, for a quorum or
//! to be taken in, is ready without one after a while: that is not its fault, and a restart would not help.

use std::time::Duration;

use goat_system::notify;
use tokio::time::timeout;

use crate::raft::{Group, leader_of};

/// Elections take well under a second.
const LEADER_WITHIN: Duration = Duration::from_secs(10);

/// Tells systemd, which has to want it, until it is dropped. From when Raft runs.
pub async fn run(group: Group) {
    notify::status(&standing(&group));
    let own = group.id();
    let wait = group.raft().wait(None);
    let leader = wait.metrics(|metrics| leader_of(metrics, own).is_some(), "a leader");
    let _ = timeout(LEADER_WITHIN, leader).await;
    notify::run(|| look(&group)).await;
}

async fn look(group: &Group) -> Option<String> {
    let raft = group.raft();
    raft.with_raft_state(|_| ()).await.ok()?;
    raft.with_state_machine(|_| Box::pin(async {})).await.ok()?;
    Some(standing(group))
}

fn standing(group: &Group) -> String {
    let members = group.members();
    let voters = members.iter().filter(|member| member.is_voter).count();
    let is_voter = members.iter().any(|member| member.id == group.id() && member.is_voter);
    let of = if voters == 1 { "of 1 manager".to_owned() } else { format!("of {voters} managers") };
    match group.leader() {
        Some(leader) if leader.is_here => format!("leads in term {}, one {of}", leader.term),
        Some(leader) if is_voter => format!("follows {} in term {}, one {of}", leader.name, leader.term),
        Some(leader) => format!("learns from {} in term {}, beside {voters} that vote", leader.name, leader.term),
        None if members.is_empty() => "waits to be taken in by the leader".to_owned(),
        None => format!("knows no leader: waits for a majority {of}"),
    }
}
