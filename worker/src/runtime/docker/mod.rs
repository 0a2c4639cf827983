//! Runs tasks as containers of the local Docker daemon, API 1.41 upwards (`api` says which is spoken).
//!
//! A container is named after its task and carries the task's description as labels (`labels`), so the daemon is the
//! record of what runs: nothing else has to be remembered in order to find it again. Several workers may share one
//! daemon: each asks only for containers that carry its own node id. Docker's restart policy is always `no`.

mod api;
mod calls;
mod container;
mod error;
mod events;
mod evidence;
mod exec;
mod fence;
mod find;
mod happened;
mod images;
mod labels;
mod list;
mod outage;
mod ownerless;
mod prune;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters as query;
use futures::{StreamExt, TryStreamExt};
use goat_core::model::{ClusterId, Driver, ImageInfo, NodeId, ServiceSpec};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc};

use super::{Created, Error, Event, Found, LogChunk, LogOptions, LogStream, Runtime, Seal, Started};
use crate::task::{Exit, Order, TaskMeta};
use calls::within;
use error::Fault;

pub use evidence::container_processes;

/// No request waits longer for its answer to begin; each has a shorter limit of its own (`calls`).
const REQUEST_TIMEOUT_S: u64 = 180;

/// The `docker` runtime of one node.
#[derive(Debug)]
pub struct DockerRuntime {
    node: NodeId,
    socket: String,
    /// None until the socket was there.
    client: Mutex<Option<Docker>>,
    version: api::Negotiated,
    pulls: images::Pulls,
    memory: Arc<prune::Memory>,
    outage: outage::Outage,
    /// Containers that were sent their stop signal: it is sent once, however often a stop is repeated.
    asked_to_end: Mutex<BTreeSet<String>>,
    /// The daemon's CPUs, once it has said how many.
    cpus: OnceCell<u64>,
}

impl DockerRuntime {
    /// Contacts nobody yet, and blocks. `socket`: absolute path of the daemon's unix socket. `root`: the data directory.
    pub fn new(node: NodeId, socket: impl Into<String>, root: &Path) -> Self {
        let socket = socket.into();
        Self {
            node,
            client: Mutex::new(None),
            version: api::Negotiated::default(),
            pulls: images::Pulls::default(),
            memory: Arc::new(prune::Memory::open(root.join("images.json"))),
            outage: outage::Outage::new(&socket, root),
            asked_to_end: Mutex::default(),
            cpus: OnceCell::new(),
            socket,
        }
    }

    /// A client; each request connects anew, so it outlives the daemon's restarts.
    fn client(&self) -> Result<Docker, Error> {
        let mut client = self.client.lock();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.version.client(&self.socket, REQUEST_TIMEOUT_S);
        let made = made.map_err(|error| Error::Unreachable { problem: error.to_string() })?;
        Ok(client.insert(made).clone())
    }

    /// Whether it answers at all; `ping` asks more.
    async fn knock(&self) -> Result<(), Error> {
        let client = self.client()?;
        within(calls::PING, client.ping()).await.map(drop).map_err(Fault::general)
    }

    async fn inspect_name(&self, name: &str) -> Result<Option<Found>, Error> {
        let client = self.client()?;
        match within(calls::INSPECT, client.inspect_container(name, None)).await {
            Ok(response) => Ok(container::found_by_inspect(response)),
            Err(fault) if fault.is_absent() => Ok(None),
            Err(fault) => Err(fault.general()),
        }
    }

    async fn create_named(&self, order: &Order) -> Result<String, Fault> {
        let client = self.client().map_err(Fault::Known)?;
        let options = query::CreateContainerOptionsBuilder::default().name(&container::name(&order.meta)).build();
        let body = container::body(order, self.node, self.cpus_for(order).await.map_err(Fault::Known)?);
        let create = within(calls::CREATE, client.create_container(Some(options), body));
        // It may be asked for again, so there is no use in waiting beside a daemon that hangs.
        let created = self.outage.unless_down(Duration::ZERO, create).await.map_err(Fault::Known)?;
        created.map(|created| created.id)
    }

    /// Whether it was there.
    async fn remove_name(&self, name: &str) -> Result<bool, Error> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let client = self.client()?;
        match within(calls::REMOVE, client.remove_container(name, Some(options))).await {
            Ok(()) => Ok(true),
            // Its removal is under way already.
            Err(fault) if fault.status() == Some(409) => Ok(true),
            Err(fault) if fault.is_absent() => Ok(false),
            Err(fault) => Err(fault.general()),
        }
    }
}

#[async_trait::async_trait]
impl Runtime for DockerRuntime {
    fn driver(&self) -> Driver {
        Driver::Docker
    }

    async fn ping(&self) -> Result<(), Error> {
        let client = self.client()?;
        let version = within(calls::PING, client.version()).await.map_err(Fault::general)?;
        self.version.negotiate(&version).map_err(|problem| Error::Unsupported {
            problem: format!("the Docker daemon at {} {problem}", self.socket),
        })
    }

    async fn prepare(&self, spec: &ServiceSpec) -> Result<(), Error> {
        let client = self.client()?;
        let pull = self.pulls.pull(&client, &self.memory, &spec.image);
        self.outage.unless_down(calls::PULL_PATIENCE, pull).await?
    }

    async fn create(&self, order: &Order) -> Result<Created, Error> {
        let name = container::name(&order.meta);
        // The second time where a container that never ran was in the way.
        for _ in 0..2 {
            let fault = match self.create_named(order).await {
                Ok(handle) => return Ok(Created::Fresh { handle }),
                Err(fault) => fault,
            };
            if fault.status() != Some(409) {
                return Err(fault.on_create());
            }
            match self.inspect_name(&name).await? {
                Some(found) if found.meta.task != order.meta.task => return Err(fault.on_create()),
                Some(Found { container_id, state: super::FoundState::Running { started_at_ms, .. }, .. }) => {
                    return Ok(Created::Running(Started { container_id, started_at_ms }));
                }
                Some(Found { container_id, state: super::FoundState::Ended(exit), .. }) => {
                    return Ok(Created::Ended { container_id, exit: exit.unwrap_or_else(Exit::unseen) });
                }
                Some(_) => {
                    self.remove_name(&name).await?;
                }
                None => {}
            }
        }
        Err(Error::Unreachable { problem: format!("the name {name} stays in use") })
    }

    async fn start(&self, _order: &Order, handle: &str) -> Result<Started, Error> {
        let client = self.client()?;
        let options = None::<query::StartContainerOptions>;
        self.outage.start_asked(handle);
        let result = within(calls::START, client.start_container(handle, options)).await;
        if !matches!(result, Err(Fault::Unanswered { .. })) {
            self.outage.start_answered(handle);
        }
        result.map_err(Fault::on_start)?;
        self.outage.sight.prove(vec![handle.to_owned()]).await;
        Ok(Started { container_id: handle.to_owned(), started_at_ms: crate::clock::now_ms() })
    }

    async fn stop(&self, meta: &TaskMeta, grace: Duration) -> Result<Option<Exit>, Error> {
        // Asked of its name first: what has to end waits for no look.
        let name = container::name(meta);
        self.end(&name, grace).await?;
        let ended = match self.inspect_name(&name).await? {
            Some(found) => Some(found),
            None => match self.renamed(meta).await? {
                Some(id) => {
                    self.end(&id, grace).await?;
                    self.inspect_name(&id).await?
                }
                None => None,
            },
        };
        Ok(ended.and_then(|found| match found.state {
            super::FoundState::Ended(exit) => exit,
            _ => None,
        }))
    }

    async fn remove(&self, meta: &TaskMeta) -> Result<(), Error> {
        if !self.remove_name(&container::name(meta)).await?
            && let Some(id) = self.renamed(meta).await?
        {
            self.remove_name(&id).await?;
        }
        Ok(())
    }

    async fn inspect(&self, meta: &TaskMeta) -> Result<Option<Found>, Error> {
        self.find(meta).await
    }

    async fn seal(&self, container_id: &str) -> Result<Seal, Error> {
        self.seal_container(container_id).await
    }

    async fn end_container(&self, container_id: &str, grace: Duration) -> Result<bool, Error> {
        self.end_if_running(container_id, grace).await
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        self.list_checked().await
    }

    async fn logs(&self, meta: &TaskMeta, options: LogOptions) -> Result<LogStream, Error> {
        let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let query = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(options.follow)
            .timestamps(options.timestamps)
            .tail(&tail)
            .build();
        let client = self.client()?;
        let Some(found) = self.find(meta).await? else {
            let problem = "the task's container was removed, and its output with it";
            return Err(Error::failed("container-removed", problem));
        };
        let name = found.container_id;
        let stream = client.logs(&name, Some(query)).map_err(|error| Fault::from(error).general());
        Ok(stream.map_ok(log_chunk).boxed())
    }

    async fn watch(&self, events: mpsc::Sender<(Driver, Event)>) {
        events::watch(self, events).await;
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, Error> {
        images::list(&self.client()?).await
    }

    async fn disk_root(&self) -> Result<PathBuf, Error> {
        let client = self.client()?;
        let info = within(calls::INSPECT, client.info()).await.map_err(Fault::general)?;
        Ok(info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".into()).into())
    }

    async fn prune_images(&self, unused_for: Duration) -> Result<Vec<String>, Error> {
        self.memory.prune(&self.client()?, unused_for).await
    }

    async fn ownerless(&self, cluster: ClusterId) -> Result<BTreeMap<String, usize>, Error> {
        self.containers_without_owner(cluster).await
    }

    async fn certainly_ended(&self, container_ids: Vec<String>) -> Vec<String> {
        self.outage.certainly_ended(container_ids).await
    }
}

fn log_chunk(output: bollard::container::LogOutput) -> LogChunk {
    let is_stderr = matches!(output, bollard::container::LogOutput::StdErr { .. });
    LogChunk { is_stderr, data: output.into_bytes() }
}
