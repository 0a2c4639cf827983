//! What runs tasks: one trait, and its implementations `docker` and `process`.
//!
//! A runtime knows nothing of managers and decides nothing. Every operation is idempotent by task, so that it may be
//! repeated after a crash or a timeout; every call ends within a bound. A runtime sees only what belongs to this node.

pub mod docker;
pub mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use goat_core::model::{ClusterId, Driver, ImageInfo, ServiceSpec, TaskId};
use tokio::sync::mpsc;

use crate::task::{Exit, Order, TaskMeta};

/// The operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Worth another try: it says nothing about the task.
    #[error("the runtime does not answer: {problem}")]
    Unreachable { problem: String },
    /// It answers, and cannot be worked with.
    #[error("{problem}")]
    Unsupported { problem: String },
    /// `prepare` may help.
    #[error("the image is not present")]
    ImageMissing,
    /// It was removed before it was started: the task has not run, and is created again.
    #[error("the container was removed before it was started")]
    ContainerMissing,
    /// The task cannot be had; `reason` is a constant word.
    #[error("{problem}")]
    Failed { reason: &'static str, problem: String },
}

/// The reason of what failed because the runtime was not there.
pub const RUNTIME_DOWN: &str = "runtime-down";
/// The reason of what failed for want of room on the disk.
pub const DISK_FULL: &str = "disk-full";

impl Error {
    pub fn failed(reason: &'static str, problem: impl Into<String>) -> Self {
        Self::Failed { reason, problem: problem.into() }
    }
}

/// A task's container or process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub container_id: String,
    pub started_at_ms: u64,
}

/// What `create` found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is there and has never run. `handle` is for `start`.
    Fresh { handle: String },
    /// It was started before; nothing was done.
    Running(Started),
    /// It ran before and has ended; nothing was done.
    Ended { container_id: String, exit: Exit },
}

/// A container or process of this node, as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub meta: TaskMeta,
    pub container_id: String,
    pub state: FoundState,
}

impl Found {
    /// Paused or not.
    pub fn is_running(&self) -> bool {
        matches!(self.state, FoundState::Running { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundState {
    /// Never started.
    Created,
    Running {
        started_at_ms: u64,
        /// Its processes stand still.
        is_paused: bool,
    },
    /// The exit is None where listing does not tell; `inspect` does.
    Ended(Option<Exit>),
}

/// What a runtime tells unasked. Telling twice is fine.
#[derive(Debug, Clone)]
pub enum Event {
    Up,
    /// It does not answer; told again and again until it does.
    Down {
        problem: String,
    },
    Exited {
        task: TaskId,
        /// `None` for a process.
        container_id: Option<String>,
        exit: Exit,
    },
    /// A container with the task's labels was started, by this worker or by somebody else.
    Started {
        task: TaskId,
        container_id: String,
    },
    /// Everything that is there. `asked` is from before the question: a task that ran by then and is not in it is gone.
    Resync {
        asked: Instant,
        found: Vec<Found>,
    },
    ImagesChanged,
}

/// The result of sealing the container of an ended task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Nobody can start it any more.
    pub is_certain: bool,
    /// Somebody had started it again, and it was killed.
    pub ran_again: bool,
}

/// How logs are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Go on until the task ends.
    pub follow: bool,
    /// Only so many lines of what is there; None is all.
    pub tail: Option<u32>,
    /// Each line begins with its time, as RFC 3339.
    pub timestamps: bool,
}

/// A piece of output; lines may be cut anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    pub is_stderr: bool,
    pub data: Bytes,
}

pub type LogStream = BoxStream<'static, Result<LogChunk, Error>>;

/// How a command beside a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// 128 and the signal's number where a signal ended it; None where it was given up.
    pub code: Option<i32>,
    /// The beginning of what it said.
    pub output: String,
}

/// The ways into a task that runs, for its health check.
#[async_trait::async_trait]
pub trait Access {
    /// Where this node reaches the ports that the task listens on.
    async fn address_of(&self, meta: &TaskMeta) -> Result<IpAddr, Error>;

    /// Runs a command where the task runs, with the task's environment, and ends it after `limit`. Dropping is fine. An
    /// error of another kind than `Unreachable` is the command's.
    async fn exec(&self, meta: &TaskMeta, argv: &[String], limit: Duration) -> Result<Ran, Error>;
}

/// What runs tasks. See the module's page for what all implementations promise.
#[async_trait::async_trait]
pub trait Runtime: Access + fmt::Debug + Send + Sync {
    fn driver(&self) -> Driver;

    /// Whether it answers and can be worked with.
    async fn ping(&self) -> Result<(), Error>;

    /// Fetches the image. Not needed, and not to be called, while `create` does not answer `ImageMissing`.
    async fn prepare(&self, spec: &ServiceSpec) -> Result<(), Error>;

    /// Makes everything ready for `start`, which then is quick.
    async fn create(&self, order: &Order) -> Result<Created, Error>;

    /// Starts what `create` made; that it was started already is fine.
    async fn start(&self, order: &Order, handle: &str) -> Result<Started, Error>;

    /// Asks the task to end, and makes it end after `grace`. On return it does not run; None where nothing was there.
    async fn stop(&self, meta: &TaskMeta, grace: Duration) -> Result<Option<Exit>, Error>;

    /// Removes what is left of the task, its logs included; makes it end first if it runs.
    async fn remove(&self, meta: &TaskMeta) -> Result<(), Error>;

    /// What is there of the task, with its exit where it has ended.
    async fn inspect(&self, meta: &TaskMeta) -> Result<Option<Found>, Error>;

    /// Makes sure that the container of an ended task does not run and that nobody can start it again, as far as the runtime can
    /// do that. The default is for runtimes whose ended tasks nobody can start.
    async fn seal(&self, _container_id: &str) -> Result<Seal, Error> {
        Ok(Seal { is_certain: true, ran_again: false })
    }

    /// Ends a container that must not run. Returns whether it ran.
    async fn end_container(&self, _container_id: &str, _grace: Duration) -> Result<bool, Error> {
        Ok(false)
    }

    /// All that is there of this node. Of several with one task's labels the oldest comes first.
    async fn list(&self) -> Result<Vec<Found>, Error>;

    /// A task's output.
    async fn logs(&self, meta: &TaskMeta, options: LogOptions) -> Result<LogStream, Error>;

    /// Tells what happens, until the receiver is gone. Called once.
    async fn watch(&self, events: mpsc::Sender<(Driver, Event)>);

    /// The images that are present.
    async fn images(&self) -> Result<Vec<ImageInfo>, Error>;

    /// Where it keeps its data, for measuring the disk.
    async fn disk_root(&self) -> Result<PathBuf, Error>;

    /// Removes the images that it fetched itself and that nothing has used for so long; which they were.
    async fn prune_images(&self, _unused_for: Duration) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Nodes of the cluster other than this one whose containers run here though nobody seems to own them, with their number.
    async fn ownerless(&self, _cluster: ClusterId) -> Result<BTreeMap<String, usize>, Error> {
        Ok(BTreeMap::new())
    }

    /// Those of the containers or processes that certainly do not run and will not, as far as that can be known while the
    /// runtime does not answer; none where it cannot be known.
    async fn certainly_ended(&self, _container_ids: Vec<String>) -> Vec<String> {
        Vec::new()
    }
}

/// The runtimes that this worker was started with.
#[derive(Debug, Clone, Default)]
pub struct Runtimes(Arc<BTreeMap<Driver, Arc<dyn Runtime>>>);

impl Runtimes {
    pub fn new(runtimes: impl IntoIterator<Item = Arc<dyn Runtime>>) -> Self {
        Self(Arc::new(runtimes.into_iter().map(|runtime| (runtime.driver(), runtime)).collect()))
    }

    pub fn get(&self, driver: Driver) -> Option<&Arc<dyn Runtime>> {
        self.0.get(&driver)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Runtime>> {
        self.0.values()
    }
}
