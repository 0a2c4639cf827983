//! Managers are killed or halted, one, two or all of them: tasks must not notice, and the API must say what is the matter.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::catalogue::Kind;
use super::role::Role;
use super::stage::{Measured, Stage};
use crate::client::request_id;
use crate::error::Error;

const FROZEN_S: u64 = 10;
const DOWN_S: u64 = 20;
/// Beyond an announced outage, until all is whole again.
const LONGER: Duration = Duration::from_secs(60);
/// Several heartbeats.
const HEARD: Duration = Duration::from_secs(3);
/// Longer than a manager without a quorum may take to say so.
const ASK: Duration = Duration::from_secs(10);

/// The leader is halted, and let go on when another leads.
pub(super) async fn leader_freeze(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let frozen = stage.restart_clock();
    let thaw_at = frozen + stage.length(FROZEN_S);
    stage.remote().freeze(&status.leader).await?;
    stage.timeline.tell_at(frozen, format!("SIGSTOP {} (leader, term {})", status.leader, status.term));
    let followed = tokio::try_join!(stage.accepted(frozen), stage.next_leader(&status.leader, status.term));
    tokio::time::sleep_until(thaw_at).await;
    stage.remote().thaw(&status.leader).await?;
    stage.timeline.tell(format!("SIGCONT {}", status.leader));
    let (accepted, (_, term)) = followed?;
    stage.term = term;
    Ok(vec![("SIGSTOP to next accepted write", accepted)])
}

pub(super) async fn kill(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    match kind {
        Kind::TwoManagersKill => two_kill(stage).await,
        Kind::AllManagersKill => all_kill(stage).await,
        Kind::PlannedOutage => planned_outage(stage).await,
        _ => rolling_kill(stage).await,
    }
}

/// The leader and a follower are killed: the third knows that it cannot decide anything.
async fn two_kill(stage: &mut Stage) -> Result<Measured, Error> {
    let leader = stage.client().status().await?.leader;
    let follower = stage.managers().into_iter().find(|name| *name != leader);
    let victims: Vec<_> = [Some(leader), follower].into_iter().flatten().collect();
    without_quorum(stage, &victims, DOWN_S).await
}

/// All managers are killed at one moment.
async fn all_kill(stage: &mut Stage) -> Result<Measured, Error> {
    let victims = stage.managers();
    without_quorum(stage, &victims, DOWN_S).await
}

/// One after the other, the leader included, and then all: no task notices.
async fn rolling_kill(stage: &mut Stage) -> Result<Measured, Error> {
    let mut longest_ms: f64 = 0.0;
    for name in stage.managers() {
        let killed = Instant::now();
        stage.remote().kill(&name, false).await?;
        stage.timeline.tell_at(killed, format!("SIGKILL {name}"));
        longest_ms = longest_ms.max(stage.accepted(killed).await?);
        stage.remote().start(&name).await?;
        stage.whole().await?;
        stage.timeline.tell(format!("{name} is back"));
    }
    stage.term = stage.client().status().await?.term;
    stage.checkpoint()?;
    let victims = stage.managers();
    let mut measured = vec![("SIGKILL to next accepted write, one by one", longest_ms)];
    measured.extend(without_quorum(stage, &victims, DOWN_S).await?);
    Ok(measured)
}

/// All managers are killed as `goatctl cluster freeze` announced: nothing stops, whatever it chose.
async fn planned_outage(stage: &mut Stage) -> Result<Measured, Error> {
    let length = stage.length(DOWN_S);
    stage.client().freeze(length + LONGER).await?;
    stage.timeline.tell(format!("the cluster is frozen for {} s", (length + LONGER).as_secs()));
    // By then every worker has heard of it with a heartbeat.
    tokio::time::sleep(HEARD).await;
    let victims = stage.managers();
    outage(stage, &victims, length).await
}

async fn without_quorum(stage: &mut Stage, victims: &[String], default_s: u64) -> Result<Measured, Error> {
    // Longer than any lease; what chose `stop` has to.
    stage.rules.may_stop.push(Role::Stop);
    outage(stage, victims, stage.length(default_s)).await
}

async fn outage(stage: &mut Stage, victims: &[String], length: Duration) -> Result<Measured, Error> {
    let survivors: Vec<_> = stage.managers().into_iter().filter(|name| !victims.contains(name)).collect();
    stage.rules.may_fail_requests = true;
    let killed = stage.restart_clock();
    futures::future::try_join_all(victims.iter().map(|name| stage.remote().kill(name, false))).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {} for {} s", victims.join(", "), length.as_secs()));
    let mut measured = Vec::new();
    for name in survivors {
        measured.push(("API says that there is no quorum", refusal(stage, &name, victims).await?));
    }
    tokio::time::sleep_until(killed + length).await;
    let started = Instant::now();
    futures::future::try_join_all(victims.iter().map(|name| stage.remote().start(name))).await?;
    stage.timeline.tell(format!("{} started again", victims.join(", ")));
    let accepted = stage.accepted(started).await?;
    stage.whole().await?;
    stage.term = stage.client().status().await?.term;
    measured.insert(0, ("start to next accepted write", accepted));
    measured.push(("start to whole", started.elapsed().as_secs_f64() * 1e3));
    Ok(measured)
}

/// The longest that the manager took to refuse a read and a write; both must name those who are missing.
async fn refusal(stage: &mut Stage, name: &str, missing: &[String]) -> Result<f64, Error> {
    let client = stage.client().with_limits(ASK, ASK);
    let at = stage.managers().iter().position(|manager| manager == name).unwrap_or_default();
    let began = Instant::now();
    let read = async {
        let asked = client.once(at, v1::GetStatusRequest::default(), |mut control, request| async move {
            control.get_status(request).await
        });
        (asked.await.map(drop), began.elapsed())
    };
    // Nobody has a service of that name; a manager that can decide says so.
    let request = v1::RemoveServiceRequest { request_id: request_id(), reference: "drill-nobodys".into() };
    let write = async {
        let asked =
            client.once(at, request, |mut control, request| async move { control.remove_service(request).await });
        (asked.await.map(drop), began.elapsed())
    };
    let ((read, read_took), (write, write_took)) = tokio::join!(read, write);
    let here = stage.remote().layout().addresses().into_iter().nth(at).unwrap_or_default();
    let mut wrong = Vec::new();
    for (what, answer) in [("a read", read), ("a write", write)] {
        wrong.extend(unclear(what, &answer, missing, &here));
        if let Err(status) = answer {
            stage.timeline.tell(format!("{name} refuses {what}: {}", status.message()));
        }
    }
    stage.wrong.extend(wrong);
    Ok(read_took.max(write_took).as_secs_f64() * 1e3)
}

/// `here`: the address of the manager that answered, which is none of those that it misses.
fn unclear(what: &str, answer: &Result<(), Status>, missing: &[String], here: &str) -> Option<String> {
    let status = match answer {
        Ok(()) => return Some(format!("{what} was answered without a quorum")),
        Err(status) => status,
    };
    let text = status.message();
    let unnamed = missing.iter().find(|name| !text.contains(name.as_str()));
    match unnamed {
        _ if status.code() != Code::Unavailable => {
            Some(format!("{what} without a quorum ended with {:?}: {text}", status.code()))
        }
        Some(name) => Some(format!("{what} without a quorum does not say that {name} is missing: {text}")),
        None if text.contains(here) => {
            Some(format!("{what} without a quorum names managers that are not missing: {text}"))
        }
        None => None,
    }
}
