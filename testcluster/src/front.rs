//! One address for all replicas of echo: connections go round, and on to the next where one is refused.
//!
//! It asks any manager, without asking for agreement, and keeps what it knows when none answers: it serves as long as one
//! replica lives, whatever becomes of the managers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goat_proto::v1;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::echo;
use crate::error::Error;
use crate::taskset::TaskSet;

const POLL: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_millis(300);
/// For a connection without any replica to take it.
const PATIENCE: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// New connections are turned away above this.
const MAX_CONNECTIONS: usize = 512;
const NOBODY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\n\
                        content-length: 35\r\n\r\nno replica of echo can be reached.\n";

/// The replicas that are known to run.
#[derive(Debug, Default)]
struct Replicas {
    addresses: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
    connections: AtomicUsize,
}

/// Opens the front at `at` and serves until `tasks` are stopped.
pub async fn open(at: SocketAddr, client: Client, tasks: &TaskSet) -> Result<(), Error> {
    let listener = TcpListener::bind(at).await.map_err(|source| Error::Io {
        what: format!("cannot listen on {at} for echo; stop what listens there, or give another --port"),
        source,
    })?;
    let replicas = Arc::new(Replicas::default());
    let known = replicas.clone();
    let client = client.with_limits(Duration::from_millis(500), Duration::from_secs(1));
    tasks.spawn(async move {
        loop {
            if let Ok(addresses) = look(&client).await {
                *known.addresses.lock().expect("no panic holds it") = addresses;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    let connections = tasks.clone();
    tasks.spawn(async move {
        loop {
            match listener.accept().await {
                Ok((inbound, _)) if replicas.connections.load(Ordering::Relaxed) < MAX_CONNECTIONS => {
                    let replicas = replicas.clone();
                    connections.spawn(async move {
                        replicas.connections.fetch_add(1, Ordering::Relaxed);
                        replicas.serve(inbound).await;
                        replicas.connections.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    });
    Ok(())
}

async fn look(client: &Client) -> Result<Vec<SocketAddr>, Error> {
    let read = Some(v1::ReadOptions { stale: true });
    let tasks = v1::ListTasksRequest { read, service: echo::SERVICE.into(), ..Default::default() };
    let nodes = v1::ListNodesRequest { read, ..Default::default() };
    let (tasks, nodes) = tokio::try_join!(client.list_tasks(tasks), client.list_nodes(nodes))?;
    let addresses: HashMap<_, _> = nodes.into_iter().map(|node| (node.id, node.address)).collect();
    let running = tasks.iter().filter(|task| task.state == "running");
    Ok(running
        .filter_map(|task| Some(SocketAddr::new(addresses.get(&task.node_id)?.parse().ok()?, echo::PORT)))
        .collect())
}

impl Replicas {
    async fn serve(&self, mut inbound: TcpStream) {
        match tokio::time::timeout(PATIENCE, self.reach()).await {
            // How it ends is between the two.
            Ok(mut outbound) => drop(copy_bidirectional(&mut inbound, &mut outbound).await),
            Err(_) => {
                let _ = inbound.write_all(NOBODY).await;
                let _ = inbound.shutdown().await;
            }
        }
    }

    /// A connection to the next replica that takes one; tried until there is one, since what has just started may not
    /// listen yet, and may not be known yet.
    async fn reach(&self) -> TcpStream {
        loop {
            let addresses = self.addresses.lock().expect("no panic holds it").clone();
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for at in 0..addresses.len() {
                let address = addresses[(first + at) % addresses.len()];
                if let Ok(Ok(outbound)) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                    return outbound;
                }
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}
