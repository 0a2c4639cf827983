//! Reading with a guarantee, from any manager: the leader says up to where the log has to be applied.

use std::time::Duration;

use goat_proto::v1::ReadIndexRequest;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use tokio::time::Instant;

use super::proposer::{COMMIT_TIMEOUT, Error, FORWARDING_TIME};
use super::timing::HEARTBEAT_TIMEOUT;
use super::{Group, LEADER_WAIT, Leader};

/// A read waits for one heartbeat that is on its way and for another one.
const READ_INDEX_TIMEOUT: Duration = HEARTBEAT_TIMEOUT.saturating_add(Duration::from_millis(500));

impl Group {
    /// Returns when this manager's view is at least as new as everything acknowledged before the call.
    pub async fn linearize(&self) -> Result<(), Error> {
        let deadline = Instant::now() + LEADER_WAIT;
        let index = loop {
            let result = match self.leader() {
                None => Err(Error::NoLeader),
                Some(leader) if leader.is_here => self.read_index_here().await,
                Some(leader) => tokio::select! {
                    result = self.read_index_at(&leader) => result,
                    () = self.is_replaced(&leader) => Err(Error::NotLeader),
                },
            };
            match result {
                Ok(index) => break index,
                Err(error @ Error::Stopped(_)) => return Err(error),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => self.wait_for_leader_change().await,
            }
        };
        let mut applied = self.view().applied();
        let caught_up = async { applied.wait_for(|applied| *applied >= index).await.map(drop) };
        let caught_up = tokio::time::timeout(COMMIT_TIMEOUT, caught_up).await;
        match caught_up {
            Ok(Ok(())) => Ok(()),
            Ok(Err(closed)) => Err(Error::Stopped(closed.to_string())),
            Err(_) => Err(Error::Behind { applied: *applied.borrow(), needed: index }),
        }
    }

    /// The index that a linearizable read has to wait for; this manager must be the leader, and a majority confirms
    /// that after the call began.
    pub async fn read_index_here(&self) -> Result<u64, Error> {
        // An acknowledgement of any age is too old: a majority has to answer a heartbeat that is sent from now on.
        let fresh = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ_INDEX_TIMEOUT);
        let read = self.raft().get_read_log_id(fresh);
        match tokio::time::timeout(READ_INDEX_TIMEOUT, read).await {
            Err(_) => Err(Error::NoQuorum),
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Err(Error::NotLeader),
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => Err(Error::NoQuorum),
            Ok(Err(RaftError::Fatal(fatal))) => Err(Error::Stopped(fatal.to_string())),
        }
    }

    async fn read_index_at(&self, leader: &Leader) -> Result<u64, Error> {
        let mut client = self.peers().raft(&leader.address).map_err(|_| Error::NoLeader)?;
        match tokio::time::timeout(
            READ_INDEX_TIMEOUT + FORWARDING_TIME,
            client.read_index(ReadIndexRequest { to: leader.id }),
        )
        .await
        {
            Ok(Ok(reply)) => Ok(reply.into_inner().index),
            Ok(Err(_)) => Err(Error::NotLeader),
            Err(_) => Err(Error::NoQuorum),
        }
    }
}
