//! Proposing commands, from any manager.

use std::time::Duration;

use goat_core::codec::{self, Versioned as _};
use goat_core::state::command::{Command, MAX_COMMAND_BYTES, Outcome};
use goat_proto::v1::RaftMessage;
use goat_raft_store::Payload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tracing::Instrument;

use super::{Group, LEADER_WAIT, Leader};

/// Longest wait for a commit, however slow links and disks are. It ends earlier if a majority stops answering heartbeats.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request and its reply between a follower and the leader, besides the time that the leader takes.
pub(super) const FORWARDING_TIME: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A command that took effect, was refused, or was answered before.
#[derive(Debug)]
pub struct Accepted {
    pub index: u64,
    pub outcome: Outcome,
}

/// Why a command or a read got no answer. After `NoQuorum`, a command may still take effect later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("this manager does not lead")]
    NotLeader,
    #[error("no leader")]
    NoLeader,
    #[error("the leader cannot reach a majority of the managers")]
    NoQuorum,
    #[error(
        "this manager has applied {applied} of {needed} log entries that the read needs; ask another manager, or use --stale"
    )]
    Behind { applied: u64, needed: u64 },
    #[error("the membership could not be changed: {0}")]
    Membership(String),
    #[error("raft has stopped on this manager: {0}")]
    Stopped(String),
    #[error(
        "this needs format {needed}, and the cluster uses {in_use}: when all managers are of the new version, run \
         `goatctl cluster upgrade`"
    )]
    Format { needed: u8, in_use: u8 },
    #[error(
        "the change has {bytes} bytes, over the limit of {MAX_COMMAND_BYTES} bytes for one change: make it smaller, or \
         split it"
    )]
    TooLarge { bytes: usize },
}

impl Error {
    /// The status a client sees; it names the managers that are missing.
    pub fn into_status(self, group: &Group) -> Status {
        let hint = match self {
            Self::Format { needed, in_use } => return format_status(&self, needed, in_use),
            Self::Membership(_) => return Status::failed_precondition(self.to_string()),
            Self::Behind { .. } => return Status::unavailable(self.to_string()),
            Self::TooLarge { .. } => return Status::resource_exhausted(self.to_string()),
            Self::NotLeader | Self::NoLeader => "no manager leads at present",
            Self::NoQuorum => {
                "the leader cannot reach a majority, and it is not known whether the request took effect: repeat it"
            }
            Self::Stopped(_) => "this manager is stopping",
        };
        Status::unavailable(format!("{hint}{}", group.missed_text()))
    }
}

/// Tells a follower which refusal this is; others read the text.
const FORMATS_KEY: &str = "goat-formats";

fn format_status(error: &Error, needed: u8, in_use: u8) -> Status {
    let mut status = Status::failed_precondition(error.to_string());
    let formats = format!("{needed},{in_use}").parse().expect("digits and a comma are ASCII");
    status.metadata_mut().insert(FORMATS_KEY, formats);
    status
}

fn parse_format_status(status: &Status) -> Option<Error> {
    let (needed, in_use) = status.metadata().get(FORMATS_KEY)?.to_str().ok()?.split_once(',')?;
    Some(Error::Format { needed: needed.parse().ok()?, in_use: in_use.parse().ok()? })
}

/// A command's bytes. Refuses a command that is too large here, before it reaches the log: an entry that does not fit into a
/// message to the other managers would stop the replication of everything after it.
fn encoded(command: &Command) -> Result<Vec<u8>, Error> {
    let bytes = codec::encode(command);
    if bytes.len() > MAX_COMMAND_BYTES { Err(Error::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
}

impl Group {
    /// Proposes at the leader, wherever it is. With a request id the proposal is repeated while the leader changes;
    /// without, only where it certainly did not take effect.
    pub async fn propose(&self, command: &Command) -> Result<Accepted, Error> {
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            let result = match self.leader() {
                None => Err(Error::NoLeader),
                Some(leader) if leader.is_here => self.propose_here(command).await,
                Some(leader) => tokio::select! {
                    result = self.propose_at(&leader, command) => result,
                    // Whether it still takes effect there is not known.
                    () = self.is_replaced(&leader) => Err(Error::NoQuorum),
                },
            };
            let error = match result {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            let may_repeat = match error {
                Error::NotLeader | Error::NoLeader => true,
                Error::NoQuorum => command.request.is_some(),
                Error::Stopped(_)
                | Error::Format { .. }
                | Error::Membership(_)
                | Error::TooLarge { .. }
                | Error::Behind { .. } => false,
            };
            if !may_repeat || Instant::now() >= deadline {
                return Err(error);
            }
            self.wait_for_leader_change().await;
        }
    }

    /// Proposes here, which must be the leader.
    pub async fn propose_here(&self, command: &Command) -> Result<Accepted, Error> {
        self.propose_here_within(command, COMMIT_TIMEOUT).await
    }

    /// Proposes here, which must be the leader, and waits `patience` for the end of it.
    pub async fn propose_here_within(&self, command: &Command, patience: Duration) -> Result<Accepted, Error> {
        let since = Instant::now();
        let result = self.write(command, patience).await;
        self.meters().proposed(&result, since.elapsed());
        result
    }

    async fn write(&self, command: &Command, patience: Duration) -> Result<Accepted, Error> {
        let (needed, in_use) = (command.format(), self.view().directory().format());
        if needed > in_use {
            return Err(Error::Format { needed, in_use });
        }
        let bytes = encoded(command)?;
        let span = goat_observe::child!("commit", manager = self.name());
        let trace = goat_observe::traces::header(&span);
        let write = self.raft().client_write(Payload(bytes.into())).instrument(span);
        self.await_quorum().await?;
        let written = tokio::select! {
            written = tokio::time::timeout(patience, write) => written.map_err(|_| Error::NoQuorum)?,
            () = self.quorum_lost() => return Err(Error::NoQuorum),
        };
        match written {
            Ok(response) => {
                let outcome =
                    codec::decode("outcome", &response.data.0).map_err(|error| Error::Stopped(error.to_string()))?;
                let index = response.log_id.index;
                if let Some(trace) = trace {
                    self.traced().note(index, trace);
                }
                Ok(Accepted { index, outcome })
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(Error::NotLeader),
            // The entry was in the log and another leader dropped it, or not: only a request id makes a repeat safe.
            Err(RaftError::APIError(_)) => Err(Error::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(Error::Stopped(fatal.to_string())),
        }
    }

    async fn propose_at(&self, leader: &Leader, command: &Command) -> Result<Accepted, Error> {
        let bytes = encoded(command)?;
        let mut client = self.peers().raft(&leader.address).map_err(|_| Error::NoLeader)?;
        let message = RaftMessage {
            cluster_id: self.cluster().to_string(),
            to: leader.id,
            from: self.id(),
            payload: bytes.into(),
            handled_us: 0,
        };
        let span = goat_observe::child!("propose", "otel.kind" = "client", leader = leader.name);
        let mut request = Request::new(message);
        span.in_scope(|| goat_observe::traces::inject(request.metadata_mut().as_mut()));
        let call = tokio::time::timeout(COMMIT_TIMEOUT + FORWARDING_TIME, client.propose(request).instrument(span));
        match call.await {
            Err(_) => Err(Error::NoQuorum),
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                let outcome =
                    codec::decode("outcome", &reply.outcome).map_err(|error| Error::Stopped(error.to_string()))?;
                Ok(Accepted { index: reply.index, outcome })
            }
            // Whether it was carried out before the connection broke is not known.
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                Err(parse_format_status(&status).unwrap_or(Error::NotLeader))
            }
            Ok(Err(_)) => Err(Error::NoQuorum),
        }
    }

    /// Returns when a later leader is known: one that is frozen or cut off is not waited for to the end.
    pub(super) async fn is_replaced(&self, leader: &Leader) {
        let mut metrics = self.metrics();
        while self.leader().is_none_or(|now| now.term <= leader.term) {
            if metrics.changed().await.is_err() {
                // Raft stops here; the call's own limit ends it.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) async fn wait_for_leader_change(&self) {
        let (mut metrics, before) = (self.metrics(), self.leader());
        let changed = async {
            // A receiver begins with everything that has ever been as news.
            while self.leader() == before {
                if metrics.changed().await.is_err() {
                    // Raft stops here; the caller's own limit ends it.
                    std::future::pending::<()>().await;
                }
            }
        };
        // The leader may be right and only just not ready: look again soon even if nothing changes.
        let _ = tokio::time::timeout(RETRY_AFTER, changed).await;
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{ClusterId, ServiceId, ServiceSpec};
    use goat_core::state::command::{Action, ServiceChange};

    use super::*;

    #[test]
    fn a_command_that_is_too_large_is_refused_with_its_size_and_the_limit() {
        let command = |action| Command { now_ms: 1, request: None, action };
        encoded(&command(Action::InitCluster { id: ClusterId::from_random(1) })).expect("it is small");
        let change = |bytes: usize| {
            let env = [("A".to_owned(), "a".repeat(bytes))].into();
            let spec = Some(Box::new(ServiceSpec { env, ..ServiceSpec::default() }));
            ServiceChange { id: ServiceId::from_random(1), seen_version: 0, spec }
        };
        let restore = |bytes| command(Action::RestoreServices { changes: vec![change(bytes)] });
        encoded(&restore(MAX_COMMAND_BYTES - 2_000)).expect("it fits");
        let error = encoded(&restore(MAX_COMMAND_BYTES)).expect_err("it is too large");
        assert!(matches!(error, Error::TooLarge { bytes } if bytes > MAX_COMMAND_BYTES), "{error}");
        let text = error.to_string();
        assert!(text.contains("over the limit of 1048576 bytes") && text.contains("split it"), "{text}");
    }
}
