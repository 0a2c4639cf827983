//! What the user asks for. Limits on these values are `validate`'s; a spec in the state has passed them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Node, Resources};

/// A service: an image or a command, a count, policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// A DNS label, unique in the cluster.
    pub name: String,
    pub driver: Driver,
    /// The image's reference; empty for the `process` driver.
    pub image: String,
    /// Replaces the image's entrypoint; for the `process` driver, the program to run.
    pub command: Vec<String>,
    /// Replaces the image's command; for the `process` driver, appended to `command`.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub mode: Mode,
    /// Kept free for each task; never oversubscribed.
    pub reservations: Resources,
    /// What a task is held to; zero is unlimited. `disk_bytes` is not enforced by the runtimes.
    pub limits: Resources,
    pub ports: Vec<Port>,
    pub mounts: Vec<Mount>,
    pub restart: RestartPolicy,
    pub placement: Placement,
    /// None: by the replica count (see [`ServiceSpec::on_disconnect`]).
    pub on_disconnect: Option<OnDisconnect>,
    pub health: Option<HealthCheck>,
    /// Between the stop signal and the kill.
    pub stop_grace_ms: u64,
}

impl ServiceSpec {
    /// What its tasks do when no manager answers: as asked, else `stop-if-isolated` for a single instance and `keep`
    /// for more.
    pub fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect.unwrap_or(match self.mode {
            Mode::Replicated { replicas: 0 | 1 } => OnDisconnect::StopIfIsolated,
            Mode::Replicated { .. } => OnDisconnect::Keep,
        })
    }

    /// How many tasks are wanted.
    pub fn replicas(&self) -> u32 {
        match self.mode {
            Mode::Replicated { replicas } => replicas,
        }
    }
}

/// What runs a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    #[default]
    Docker,
    /// A supervised child process without isolation.
    Process,
}

/// How many tasks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// So many, wherever they fit.
    Replicated { replicas: u32 },
}

impl Default for Mode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}

/// A port of the task made reachable on its node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Taken on the node; a node gives each to one task at a time.
    pub host_port: u16,
    /// Inside the container. The `process` driver has no inside and binds `host_port`.
    pub container_port: u16,
    #[serde(default)]
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// A path of the node seen inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the node, or the name of a volume.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

/// When a task that has ended is followed by another in its slot, and after what wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    pub condition: RestartCondition,
    /// Most restarts in a row; None is without end. Only with `on-failure`.
    pub max_attempts: Option<u32>,
    /// Before the second restart in a row (the first is at once); doubled each time after.
    pub delay_ms: u64,
    /// No wait is longer.
    pub max_delay_ms: u64,
    /// A task that ran so long was stable: the count of restarts in a row starts again.
    pub stable_after_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Always,
            max_attempts: None,
            delay_ms: 1_000,
            max_delay_ms: 60_000,
            stable_after_ms: 60_000,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    No,
    OnFailure,
    #[default]
    Always,
    /// As `always`; a slot whose task the user stopped stays stopped.
    UnlessStopped,
}

/// Where tasks may run and which node is preferred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    pub strategy: Strategy,
    pub constraints: Vec<Constraint>,
    /// Most tasks of this service on one node; zero is without limit.
    pub max_per_node: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Fewest tasks of the service first, then most room.
    #[default]
    Spread,
    /// Least room that still fits first.
    Binpack,
    /// Least rise of the cost of load: Amir et al., "An Opportunity Cost Approach for Job Assignment in a Scalable
    /// Computing Cluster" (2000).
    Epvm,
}

/// `label == value` or `label != value`; the label `node.name` is the node's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub label: String,
    pub equal: bool,
    pub value: String,
}

impl Constraint {
    /// Whether the node satisfies it.
    pub fn holds_on(&self, node: &Node) -> bool {
        let found = if self.label == "node.name" { Some(&node.name) } else { node.labels.get(&self.label) };
        (found == Some(&self.value)) == self.equal
    }
}

/// What happens to a task when its node hears from no manager (see docs/fencing.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    Keep,
    Stop,
    StopIfIsolated,
}

impl OnDisconnect {
    /// Whether the worker must stop the task when its lease has run out.
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Stop | Self::StopIfIsolated)
    }
}

/// How a task's health is probed. It is `starting` until a probe has passed, and `running` from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: HealthProbe,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Failures before this much time since the start do not count. The first probe that passes ends it.
    pub start_period_ms: u64,
    /// Failures in a row until the task is stopped, and counts as failed.
    pub retries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthProbe {
    /// GET answers with a status from 200 to 399.
    Http { port: u16, path: String },
    /// A connection is accepted.
    Tcp { port: u16 },
    /// The command exits with 0 inside the container.
    Command { argv: Vec<String> },
}
