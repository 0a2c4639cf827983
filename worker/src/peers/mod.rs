//! Other workers, asked only when no manager answers: `goat_core::isolation` says what follows from their word.

mod server;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use goat_core::isolation::{self, ANSWER_WITHIN_MS, ASK_AFTER_MS, ASK_EVERY_MS, EVIDENCE_MS, Evidence};
use goat_core::model::NodeId;
use goat_proto::v1;
use goat_proto::v1::presence_client::PresenceClient;
use goat_tls::{Connector, Role, Transport};
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

use crate::clock;
use crate::identity::{Identity, PeerWorker};
use crate::lease::Lease;

pub use server::serve;

/// Between looks whether there is a reason to ask.
const LOOK: Duration = Duration::from_millis(100);

/// A way to the agent at `address`, made when it is first used.
fn channel(connector: &Connector, address: &str, within: Duration) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(within);
    Ok(connector.channel(&endpoint))
}

/// To other workers.
pub fn connector(transport: &Transport, bind_source: Option<IpAddr>) -> Connector {
    Connector::new(transport.clone(), Role::Worker, bind_source, Duration::from_millis(ANSWER_WITHIN_MS))
}

/// The worker's answer, if it is the one that was meant.
async fn ping(channel: Channel, node: NodeId, within: Duration) -> Option<v1::PingReply> {
    let request = v1::PingRequest { node_id: node.to_string() };
    let mut client = PresenceClient::new(channel);
    let reply = tokio::time::timeout(within, client.ping(request)).await.ok()?.ok()?.into_inner();
    (reply.node_id == node.to_string()).then_some(reply)
}

/// Asks other workers while the lease is not renewed.
#[derive(Debug)]
pub struct Prober {
    identity: Arc<Identity>,
    lease: Arc<Lease>,
    connector: Connector,
    channels: BTreeMap<String, Channel>,
    told: Option<Evidence>,
}

impl Prober {
    pub fn new(identity: Arc<Identity>, lease: Arc<Lease>, connector: Connector) -> Self {
        Self { identity, lease, connector, channels: BTreeMap::new(), told: None }
    }

    /// Never ends.
    pub async fn run(mut self) {
        loop {
            // Without a grant in this boot of the machine nothing leased was ever started.
            if self.lease.grant_age_ms().is_none_or(|age_ms| age_ms < ASK_AFTER_MS) {
                if self.told.take().is_some() {
                    info!("managers answer again");
                }
                // A connection from the last silence says nothing of the next.
                self.channels.clear();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let asked_ms = clock::boot_ms();
            let evidence = self.ask().await;
            // What was heard before counts to its end, also when managers are back: who was found by them before this
            // worker says so, and this one has that long to be found as well.
            if evidence == Evidence::ManagersGone {
                self.lease.sheltered(asked_ms + EVIDENCE_MS);
            }
            self.tell(evidence);
            let spent_ms = clock::boot_ms().saturating_sub(asked_ms);
            tokio::time::sleep(Duration::from_millis(ASK_EVERY_MS.saturating_sub(spent_ms).max(50))).await;
        }
    }

    fn tell(&mut self, evidence: Evidence) {
        if self.told == Some(evidence) {
            return;
        }
        self.told = Some(evidence);
        match evidence {
            Evidence::None => warn!("no manager answers, and no other worker either: this worker counts as isolated"),
            Evidence::ManagersLive => warn!("no manager answers this worker, but others: its lease will end"),
            Evidence::ManagersGone => {
                warn!("no manager answers, other workers neither: tasks that stop only in isolation run on");
            }
        }
    }

    async fn ask(&mut self) -> Evidence {
        let within = Duration::from_millis(ANSWER_WITHIN_MS);
        let workers = self.identity.workers();
        let asked = workers.iter().filter_map(|PeerWorker { node, address }| {
            let known = self.channels.get(address).cloned();
            let channel = known.or_else(|| channel(&self.connector, address, within).ok())?;
            self.channels.insert(address.clone(), channel.clone());
            Some(async move { (address, ping(channel, *node, within).await) })
        });
        let asked: Vec<_> = asked.collect();
        let answers = join_all(asked).await;
        for (address, answer) in &answers {
            if answer.is_none() {
                // A connection on which nothing answers may never again.
                self.channels.remove(*address);
            }
        }
        isolation::evidence(answers.into_iter().filter_map(|(_, answer)| Some(answer?.grant_age_ms)))
    }
}
