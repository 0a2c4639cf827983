//! One session: what is received, and what is sent beside it. Four loops, of which the first to end ends it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_core::model::{Inventory, TaskId};
use goat_proto::v1::{self, manager_message, worker_message};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::assemble::Assembly;
use super::{End, Opened, Parts, logs};
use crate::clock;
use crate::identity::PeerWorker;
use crate::task::Assignment;
use crate::taskset::TaskSet;

/// Heartbeats without an answer, after which another way to a leader is sought. It has to be found, by way of another
/// manager if need be, before the lease has run out.
const SILENT_HEARTBEATS: u32 = 2;
const MIN_SILENCE: Duration = Duration::from_secs(1);
/// A leader that needs long for a grant, since the other managers are far away, gets as much more: up to this.
const MAX_GRANT_DELAY_MS: u64 = 1_000;
/// Between inventories.
const INVENTORY_EVERY: Duration = Duration::from_secs(2);
/// Heartbeats whose answers are waited for.
const MAX_UNANSWERED: usize = 1_000;
/// For log streams of a session that has ended.
const LOGS_STOP: Duration = Duration::from_millis(200);

struct Session<'a> {
    parts: &'a Parts,
    /// The manager that the session is with.
    address: String,
    to_leader: mpsc::Sender<v1::WorkerMessage>,
    term: u64,
    heartbeat_interval: Duration,
    lease_ttl_ms: u64,
    /// When each heartbeat was sent (CLOCK_BOOTTIME, ms).
    sent: Mutex<BTreeMap<u64, u64>>,
    /// The longest time from a heartbeat to its grant lately (ms): each grant takes an eighth off, if it came sooner.
    grant_delay_ms: AtomicU64,
    /// The heartbeat from whose grant the lease counts; 0 before the first one of this session.
    leased_from: AtomicU64,
    logs: TaskSet,
}

/// How long nothing may come from the leader.
fn silence(heartbeat_interval: Duration, grant_delay_ms: u64) -> Duration {
    let delay = Duration::from_millis(grant_delay_ms.min(MAX_GRANT_DELAY_MS));
    (heartbeat_interval * SILENT_HEARTBEATS).max(MIN_SILENCE) + delay
}

/// Holds the session for as long as it lasts.
pub(super) async fn hold(opened: Opened, parts: &Parts) -> End {
    let session = Session {
        parts,
        address: opened.address,
        to_leader: opened.to_leader,
        term: opened.term,
        heartbeat_interval: opened.heartbeat_interval,
        lease_ttl_ms: opened.lease_ttl_ms,
        sent: Mutex::default(),
        grant_delay_ms: AtomicU64::new(0),
        leased_from: AtomicU64::new(0),
        logs: parts.tasks.child("session-logs"),
    };
    parts.outbox.begin_session();
    let end = tokio::select! {
        end = session.receive(opened.from_leader) => end,
        end = session.send_heartbeats() => end,
        end = session.send_reports() => end,
        end = session.send_inventory() => end,
    };
    session.logs.stop(LOGS_STOP).await;
    end
}

impl Session<'_> {
    async fn send(&self, message: worker_message::Message) -> Result<(), End> {
        let message = v1::WorkerMessage { message: Some(message) };
        self.to_leader.send(message).await.map_err(|_| End::Lost("the leader closed the stream".into()))
    }

    async fn send_heartbeats(&self) -> End {
        let mut due = tokio::time::interval(self.heartbeat_interval);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for sequence in 1.. {
            due.tick().await;
            {
                let mut sent = self.sent.lock();
                // Before it is queued: however long it then waits, the lease is never counted too long.
                sent.insert(sequence, clock::boot_ms());
                if sent.len() > MAX_UNANSWERED {
                    sent.pop_first();
                }
            }
            let stance = self.parts.transport.credentials().map(|own| own.stance()).unwrap_or_default();
            let lease_sequence = self.leased_from.load(Ordering::Acquire);
            let heartbeat = v1::Heartbeat { sequence, stance, lease_sequence };
            if let Err(end) = self.send(worker_message::Message::Heartbeat(heartbeat)).await {
                return end;
            }
        }
        End::Stopping
    }

    async fn send_reports(&self) -> End {
        loop {
            let batch = self.parts.outbox.next_batch().await;
            if let Err(end) = self.send(worker_message::Message::Reports(batch)).await {
                return end;
            }
        }
    }

    async fn send_inventory(&self) -> End {
        let mut inventory = self.parts.inventory.clone();
        // What the greeting said may be older by now.
        let mut told: Option<Inventory> = None;
        loop {
            let now = inventory.borrow_and_update().clone();
            if told.as_ref() != Some(&now) {
                if let Err(end) = self.send(worker_message::Message::Inventory((&now).into())).await {
                    return end;
                }
                told = Some(now);
                tokio::time::sleep(INVENTORY_EVERY).await;
            }
            if inventory.changed().await.is_err() {
                return End::Stopping;
            }
        }
    }

    async fn receive(&self, mut from_leader: tonic::Streaming<v1::ManagerMessage>) -> End {
        let mut assembly = Assembly::default();
        loop {
            let silence = silence(self.heartbeat_interval, self.grant_delay_ms.load(Ordering::Relaxed));
            let message = match tokio::time::timeout(silence, from_leader.message()).await {
                Err(_) => return End::Silent(silence.as_millis() as u64),
                Ok(Err(status)) => return End::Lost(status.message().to_owned()),
                Ok(Ok(None)) => return End::Lost("the leader ended it".into()),
                Ok(Ok(Some(message))) => message,
            };
            if let Err(end) = self.check_term(message.term) {
                return end;
            }
            let Some(message) = message.message else { continue };
            if let Err(end) = self.handle(message, &mut assembly).await {
                return end;
            }
        }
    }

    fn check_term(&self, term: u64) -> Result<(), End> {
        match self.parts.identity.accept_term(term) {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::StaleTerm { got: term, highest: self.parts.identity.term() }),
            Err(error) => Err(End::Own(error.to_string())),
        }
    }

    fn met(&self, peers: v1::Peers) {
        let worker =
            |peer: v1::PeerWorker| Some(PeerWorker { node: peer.node_id.parse().ok()?, address: peer.address });
        let workers = peers.workers.into_iter().filter_map(worker).collect();
        if let Err(error) = self.parts.identity.learn_workers(workers) {
            warn!(%error, "the other workers could not be remembered");
        }
    }

    /// What the certificate should rest on, by the leader's word.
    fn rest_on(&self, wanted: String) {
        self.parts.wanted_stance.send_if_modified(|known| {
            let is_new = *known != wanted;
            *known = wanted;
            is_new
        });
    }

    async fn handle(&self, message: manager_message::Message, assembly: &mut Assembly) -> Result<(), End> {
        use manager_message::Message;
        match message {
            Message::Welcome(_) => Err(End::Nonsense("it welcomed this worker twice".into())),
            // Before the welcome, and of no use after it.
            Message::Registering(_) => Ok(()),
            Message::Redirect(redirect) => Err(End::Redirected { leader: redirect.leader_address }),
            Message::Assignments(all) => match assembly.full(all)? {
                Some(all) => Ok(self.parts.reconciler.assign_all(all).await?),
                None => Ok(()),
            },
            Message::Changes(changes) => self.changed(assembly.changes(changes)?).await,
            Message::Lease(grant) => {
                self.granted(&grant);
                Ok(())
            }
            Message::Ack(ack) => {
                self.parts.outbox.acked(ack.sequence);
                Ok(())
            }
            Message::Stance(stance) => {
                self.rest_on(stance.wanted);
                Ok(())
            }
            Message::Peers(peers) => {
                self.met(peers);
                Ok(())
            }
            Message::Managers(managers) => {
                self.parts.learn_managers(managers.addresses);
                Ok(())
            }
            Message::Logs(wanted) => {
                debug!(task_id = wanted.task_id, "logs are wanted");
                self.logs.spawn("logs", logs::push(wanted, self.address.clone(), self.parts.clone()));
                Ok(())
            }
        }
    }

    async fn changed(&self, (set, removed): (Vec<Assignment>, Vec<TaskId>)) -> Result<(), End> {
        Ok(self.parts.reconciler.assign_changes(set, removed).await?)
    }

    fn granted(&self, grant: &v1::LeaseGrant) {
        let heartbeat_sequence = grant.heartbeat_sequence;
        let mut sent = self.sent.lock();
        let Some(sent_ms) = sent.get(&heartbeat_sequence).copied() else {
            return;
        };
        let later = sent.split_off(&(heartbeat_sequence + 1));
        *sent = later;
        drop(sent);
        let delay_ms = clock::boot_ms().saturating_sub(sent_ms);
        let longest_ms = self.grant_delay_ms.load(Ordering::Relaxed);
        self.grant_delay_ms.store(delay_ms.max(longest_ms - longest_ms / 8), Ordering::Relaxed);
        debug!(raft_term = self.term, heartbeat_sequence, "the lease was granted");
        let ttl_ms = if grant.ttl_ms == 0 { self.lease_ttl_ms } else { u64::from(grant.ttl_ms) };
        if self.parts.lease.granted(sent_ms, ttl_ms) {
            self.leased_from.store(heartbeat_sequence, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_needs_long_for_a_grant_is_not_called_silent_sooner_than_that() {
        let every = Duration::from_millis(500);
        assert_eq!(silence(every, 0), Duration::from_secs(1));
        assert_eq!(silence(every, 600), Duration::from_millis(1_600));
        assert_eq!(silence(every, 60_000), Duration::from_secs(2), "the lease has to last until another way is found");
        assert_eq!(silence(Duration::from_secs(2), 0), Duration::from_secs(4));
    }
}
