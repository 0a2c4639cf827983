//! Nobody is given up before others were asked about them, however many are silent at once.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goat_proto::v1::presence_server::{Presence, PresenceServer};
use goat_proto::v1::{
    Hello, Inventory, ListNodesRequest, PingForReply, PingForRequest, PingReply, PingRequest, manager_message,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};

use crate::cluster::{Cluster, until};
use crate::worker::{self, Session, hello};

/// More than are asked about at one time.
const SILENT: usize = 20;
/// So often each is to be asked about: that takes longer than it takes to give up one that nobody asks about.
const TIMES: usize = 5;

/// A worker's agent that answers for itself, and counts how often it is asked.
struct Agent {
    node_id: String,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Presence for Agent {
    async fn ping(&self, _request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(PingReply { node_id: self.node_id.clone(), ..PingReply::default() }))
    }

    async fn ping_for(&self, _request: Request<PingForRequest>) -> Result<Response<PingForReply>, Status> {
        Err(Status::unimplemented("it is not asked about others"))
    }
}

/// Its agent serves from now on: where, and how often it was asked.
fn serve(node_id: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.84.37.9:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    listener.set_nonblocking(true).expect("it is ours");
    let asked = Arc::new(AtomicUsize::new(0));
    let agent = Agent { node_id: node_id.to_owned(), asked: asked.clone() };
    let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect("a runtime is there"));
    let server = Server::builder().add_service(PresenceServer::new(agent));
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    (address, asked)
}

/// A session with the leader, by a worker whose agent is at `agent_address`.
async fn open(cluster: &Cluster, leader: usize, node_id: &str, agent_address: String) -> Session {
    let greeting = hello(node_id, node_id);
    let inventory = Inventory { agent_address, ..greeting.inventory.clone().unwrap_or_default() };
    let greeting = Hello { inventory: Some(inventory), ..greeting };
    until("the leader welcomes the worker", async || {
        match worker::open(&cluster.managers[leader], greeting.clone()).await {
            Ok((session, manager_message::Message::Welcome(_))) => Some(session),
            _ => None,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_workers_that_fall_silent_none_that_others_reach_is_given_up() {
    let cluster = Cluster::new(37);
    cluster.settled().await;
    let leader = until("there is a leader", async || cluster.leader(0).await).await;
    let heard = open(&cluster, leader, "aaaaaaaaaaaa", String::new()).await;
    heard.keep_beating(Duration::from_millis(100));
    let (mut sessions, mut asked) = (Vec::new(), Vec::new());
    for number in 0..SILENT {
        let node_id = format!("{number:0>12}");
        let (address, count) = serve(&node_id);
        sessions.push(open(&cluster, leader, &node_id, address).await);
        asked.push(count);
    }
    let all_asked = async || asked.iter().all(|count| count.load(Ordering::Relaxed) >= TIMES).then_some(());
    until("others are asked about each silent worker", all_asked).await;
    let mut client = cluster.managers[leader].client().await.expect("it runs");
    let nodes = client.list_nodes(ListNodesRequest::default()).await.expect("it answers").into_inner().nodes;
    let given_up: Vec<_> = nodes.into_iter().filter(|node| node.state == "down").map(|node| node.name).collect();
    assert!(given_up.is_empty(), "{given_up:?}");
}
