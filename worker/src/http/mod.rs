//! The worker's pages over plain HTTP (`goat_observe::pages`), and when it counts as ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use goat_observe::{Readiness, Site, pages};
use goat_proto::convert::Word as _;
use tokio::net::TcpListener;

use crate::metrics::{Shown, registry};
use crate::taskset::TaskSet;

/// Listens from now on; served until `tasks` ends.
pub async fn open(at: SocketAddr, shown: Shown, tasks: &TaskSet) -> io::Result<()> {
    let listener = TcpListener::bind(at).await?;
    let site = Site {
        program: "goat-worker",
        version: env!("CARGO_PKG_VERSION"),
        readiness: Arc::new(Ready(shown.clone())),
        registry: Arc::new(registry(shown)),
    };
    tasks.spawn("http", pages::serve(listener, site));
    Ok(())
}

/// Ready is who could be given any task now.
#[derive(Debug)]
struct Ready(Shown);

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self) -> Result<String, String> {
        let health = self.0.health.borrow().clone();
        let leader = self.0.meters.leader();
        let mut missing = Vec::new();
        if leader.is_none() {
            missing.push("no session with a leader".to_owned());
        }
        missing.extend(health.down.iter().map(|driver| format!("the runtime {} does not answer", driver.word())));
        if health.is_unwatched {
            missing.push("no watchdog lives".to_owned());
        }
        match missing.is_empty() {
            true => Ok(format!("session with the leader at {}", leader.unwrap_or_default())),
            false => Err(missing.join("; ")),
        }
    }
}
