//! The agent's side of the watchdog: starts it, replaces one of another version, and says whether one lives.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use goat_core::model::NodeId;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::watchdog::{self, Holder};
use crate::notify;
use crate::taskset::TaskSet;

const LOOK: Duration = Duration::from_millis(500);
/// For a new one to hold its lock, or an old one to let go of it.
const CHANGE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// Keeps a watchdog alive for as long as the agent lives; it outlives the agent.
#[derive(Debug)]
pub struct Keeper {
    root: PathBuf,
    node: NodeId,
    docker_socket: String,
    /// This agent's own program, which also is the watchdog.
    program: PathBuf,
    tasks: TaskSet,
    is_alive: watch::Sender<bool>,
}

impl Keeper {
    pub fn new(root: &Path, node: NodeId, docker_socket: &str, program: PathBuf, tasks: &TaskSet) -> Self {
        Self {
            root: root.to_owned(),
            node,
            docker_socket: docker_socket.to_owned(),
            program,
            tasks: tasks.child("watchdog"),
            is_alive: watch::Sender::new(false),
        }
    }

    /// Whether a watchdog lives; nothing leased may be started without.
    pub fn is_alive(&self) -> watch::Receiver<bool> {
        self.is_alive.subscribe()
    }

    /// Never ends.
    pub async fn run(self) {
        let mut has_complained = false;
        loop {
            let is_alive = self.ensure().await;
            if !is_alive && !has_complained {
                error!("no watchdog can be started: leased tasks are not started until one lives");
            }
            has_complained = !is_alive;
            self.is_alive.send_if_modified(|alive| std::mem::replace(alive, is_alive) != is_alive);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ensure(&self) -> bool {
        match watchdog::holder(&self.root) {
            Some(Some(holder)) if self.is_own(&holder) => true,
            Some(Some(holder)) => {
                info!(version = holder.version, "replacing the watchdog of another version");
                holder.process.signal(Signal::SIGTERM);
                if !self.wait_until(|holder| holder.is_none()).await {
                    // It watches as well as its version can.
                    warn!("the watchdog of another version does not end");
                    return true;
                }
                self.start().await
            }
            // It has the lock, and has not said yet who it is.
            Some(None) => self.wait_until(|holder| matches!(holder, Some(Some(_)))).await,
            None => self.start().await,
        }
    }

    /// Of the same version, and its program was not replaced since.
    fn is_own(&self, holder: &Holder) -> bool {
        let program = std::fs::read_link("/proc/self/exe").ok();
        holder.version == env!("CARGO_PKG_VERSION")
            && Some(&holder.program) == program.as_ref()
            && std::fs::read_link(format!("/proc/{}/exe", holder.process.pid)).ok() == program
    }

    async fn start(&self) -> bool {
        let child = notify::own(&self.program)
            .arg("watchdog")
            .arg(&self.root)
            .arg("--node")
            .arg(self.node.to_string())
            .arg("--docker-host")
            .arg(&self.docker_socket)
            .stdin(Stdio::null())
            .current_dir("/")
            .spawn();
        match child {
            Ok(mut child) => {
                // Collects it when it has ended, as parents must.
                self.tasks.spawn("reap-watchdog", async move {
                    let _ = child.wait().await;
                });
                self.wait_until(|holder| matches!(holder, Some(Some(_)))).await
            }
            Err(error) => {
                warn!(%error, "the watchdog cannot be started");
                false
            }
        }
    }

    async fn wait_until(&self, is_so: impl Fn(&Option<Option<Holder>>) -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + CHANGE;
        while !is_so(&watchdog::holder(&self.root)) {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}
