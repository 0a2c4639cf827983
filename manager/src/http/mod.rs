//! The manager's pages over plain HTTP (`goat_observe::pages`), and when it counts as ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use goat_observe::{Readiness, Site, pages};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::duty::Duty;
use crate::raft::Group;
use crate::raft::proposer::Error;
use crate::raft::seat::Seat;
use crate::taskset::TaskSet;

/// Whoever watches asks again, and does not wait for long.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// An answer counts for so long: whoever asks more often makes no more work than this.
const FRESH: Duration = Duration::from_millis(250);

/// Listens from now on; served until `tasks` ends.
pub async fn open(at: SocketAddr, seat: Seat, registry: Arc<Registry>, tasks: &TaskSet) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("cannot listen on {at} for HTTP: change `http_listen`, or stop who is there"))?;
    let readiness = Arc::new(Ready { seat, last: Mutex::default() });
    let site = Site { program: "goat-manager", version: env!("CARGO_PKG_VERSION"), readiness, registry };
    tasks.spawn_duty(Duty::Http, pages::serve(listener, site));
    Ok(())
}

/// Ready is who could answer a read now: a majority has confirmed the leader, and what it had committed by then is applied
/// here.
#[derive(Debug)]
struct Ready {
    seat: Seat,
    /// Held while the question is under way, so that many who ask share an answer.
    last: Mutex<Option<(Instant, Result<String, String>)>>,
}

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self) -> Result<String, String> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = judge(self.seat.group()).await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

async fn judge(group: Option<Group>) -> Result<String, String> {
    let group = group.ok_or("this manager is starting: it has not taken its seat in the group yet")?;
    if let Some(reason) = group.fatal() {
        return Err(format!("Raft has stopped here: {reason}"));
    }
    if !group.has_members() {
        return Err("this manager has joined, and no leader has spoken to it yet".into());
    }
    match tokio::time::timeout(READY_WITHIN, group.linearize()).await {
        Ok(Ok(())) => return Ok(describe(&group)),
        Ok(Err(Error::Stopped(reason))) => return Err(format!("Raft has stopped here: {reason}")),
        // Without a majority, however that was noticed.
        Ok(Err(_)) | Err(_) => {}
    }
    let problem = match group.leader() {
        None => "no manager leads at present: there is no quorum, or an election is under way".to_owned(),
        Some(leader) => {
            format!("no majority has confirmed within a second that {} leads: there is no quorum", leader.name)
        }
    };
    Err(format!("{problem}{}", group.missed_text()))
}

fn describe(group: &Group) -> String {
    let (own, applied) = (group.name(), *group.view().applied().borrow());
    match group.leader() {
        Some(leader) if leader.is_here => format!("{own} leads in term {}, applied up to {applied}", leader.term),
        Some(leader) => format!("{own} follows {} in term {}, applied up to {applied}", leader.name, leader.term),
        None => format!("{own}, applied up to {applied}"),
    }
}
