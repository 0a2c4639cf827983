//! Options: from a TOML file, the environment and flags, the later one over the earlier one.

mod checks;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use goat_core::model::{Driver, validate};
use goat_system::config_file;
use serde::Deserialize;

use crate::identity;

pub use goat_observe::LogFormat;
pub use values::{Bytes, Labels, RuntimeName, Span, SpanOrNever};

const PRUNE_IMAGES_AFTER: Duration = Duration::from_secs(30 * 60);
const RUNTIME_DOWN_AFTER: Duration = Duration::from_secs(60);

/// The options are wrong; the text says which and what is right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] config_file::Error),
    #[error("{key} is missing: set it in the config file, with --{flag} or with {env}", flag = .key.replace('_', "-"), env = format!("GOAT_WORKER_{}", .key.to_uppercase()))]
    Missing { key: &'static str },
    #[error("{key}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

/// Every option may come from the file, the environment (`GOAT_WORKER_` and the key in capitals) or a flag.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// This worker's name, unique in the cluster [default: the host's name]
    #[arg(long, env = "GOAT_WORKER_NAME")]
    pub name: Option<String>,
    /// Managers to dial, any of them; the others are learnt [default: those learnt when it joined]
    #[arg(long, env = "GOAT_WORKER_MANAGERS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub managers: Option<Vec<String>>,
    /// IP address that published ports bind to and are reached at [default: 127.0.0.1]
    #[arg(long, env = "GOAT_WORKER_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Where this agent answers pings of managers and other workers [default: port 7701 of the address]
    #[arg(long, env = "GOAT_WORKER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the pages /healthz, /readyz and /metrics, over plain HTTP: nothing in them is secret [default: none]
    #[arg(long, env = "GOAT_WORKER_HTTP_LISTEN", value_name = "IP:PORT")]
    pub http_listen: Option<SocketAddr>,
    /// Where others reach `listen`, if not at the same place
    #[arg(long, env = "GOAT_WORKER_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The cluster was made without encryption and certificates; on this machine's loopback only
    #[arg(long, env = "GOAT_WORKER_PLAINTEXT")]
    pub plaintext: bool,
    /// Local address that connections to managers leave from
    #[arg(long, env = "GOAT_WORKER_BIND_SOURCE", value_name = "IP")]
    pub bind_source: Option<IpAddr>,
    /// Directory for this worker's identity and its tasks' journal; this worker's alone
    #[arg(long, env = "GOAT_WORKER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Labels that constraints of services match
    #[arg(long, env = "GOAT_WORKER_LABELS", value_name = "KEY=VALUE,...")]
    pub labels: Option<Labels>,
    /// What runs tasks; `process` gives no isolation and is off unless named [default: docker]
    #[arg(long, env = "GOAT_WORKER_RUNTIMES", value_delimiter = ',')]
    pub runtimes: Option<Vec<RuntimeName>>,
    /// Docker's socket [default: /var/run/docker.sock]
    #[arg(long, env = "GOAT_WORKER_DOCKER_HOST", value_name = "PATH")]
    pub docker_host: Option<String>,
    /// CPU to offer, in thousandths of one, instead of what the machine has
    #[arg(long, env = "GOAT_WORKER_CPU_MILLIS", value_name = "N")]
    pub cpu_millis: Option<u64>,
    /// Memory to offer instead of what the machine has, as in 8GiB
    #[arg(long, env = "GOAT_WORKER_MEMORY", value_name = "SIZE")]
    pub memory: Option<Bytes>,
    /// Disk to offer instead of what the runtime's file system has, as in 100GiB
    #[arg(long, env = "GOAT_WORKER_DISK", value_name = "SIZE")]
    pub disk: Option<Bytes>,
    /// CPU kept for the system, taken off what is offered [default: 0]
    #[arg(long, env = "GOAT_WORKER_RESERVE_CPU_MILLIS", value_name = "N")]
    pub reserve_cpu_millis: Option<u64>,
    /// Memory kept for the system, taken off what is offered [default: 0]
    #[arg(long, env = "GOAT_WORKER_RESERVE_MEMORY", value_name = "SIZE")]
    pub reserve_memory: Option<Bytes>,
    /// Disk kept for the system, taken off what is offered [default: 0]
    #[arg(long, env = "GOAT_WORKER_RESERVE_DISK", value_name = "SIZE")]
    pub reserve_disk: Option<Bytes>,
    /// Free disk below which nothing new is placed here [default: 5 % of the file system, at most 1GiB]
    #[arg(long, env = "GOAT_WORKER_DISK_PRESSURE_BELOW", value_name = "SIZE")]
    pub disk_pressure_below: Option<Bytes>,
    /// Remove images that were pulled for tasks and not used for so long, as in 30m, or never [default: 30m]
    #[arg(long, env = "GOAT_WORKER_PRUNE_IMAGES_AFTER", value_name = "DURATION")]
    pub prune_images_after: Option<SpanOrNever>,
    /// How long Docker may be gone before tasks that have certainly died count as failed, as in 60s [default: 60s]
    #[arg(long, env = "GOAT_WORKER_RUNTIME_DOWN_AFTER", value_name = "DURATION")]
    pub runtime_down_after: Option<Span>,
    /// Most tasks that are being started at one time [default: twice the CPUs, at least 4]
    #[arg(long, env = "GOAT_WORKER_MAX_CONCURRENT_STARTS", value_name = "N")]
    pub max_concurrent_starts: Option<usize>,
    /// Most tasks on this worker at one time [default: 125 a CPU and one for each 16MiB of memory, whichever is less]
    #[arg(long, env = "GOAT_WORKER_MAX_TASKS", value_name = "N")]
    pub max_tasks: Option<u32>,
    /// What to log: a level, or directives as in goat_worker=debug,info [default: info]
    #[arg(long, env = "GOAT_WORKER_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "GOAT_WORKER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Collector that gets the traces of requests that are traced, over OTLP, as in http://127.0.0.1:4317 [default: none]
    #[arg(long, env = "GOAT_WORKER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// What the worker runs with.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub managers: Vec<String>,
    pub address: IpAddr,
    pub listen: SocketAddr,
    pub http_listen: Option<SocketAddr>,
    pub advertise: String,
    pub plaintext: bool,
    pub bind_source: Option<IpAddr>,
    pub data_dir: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub runtimes: Vec<Driver>,
    pub docker_host: String,
    pub offer: Offer,
    /// None: by the size of the file system.
    pub disk_pressure_below: Option<u64>,
    /// None: never.
    pub prune_images_after: Option<Duration>,
    pub runtime_down_after: Duration,
    pub max_concurrent_starts: usize,
    pub log_level: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: Option<String>,
}

/// Where agents listen.
const DEFAULT_PORT: u16 = 7701;

/// How what is offered differs from what the machine has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub max_tasks: Option<u32>,
    pub reserved: goat_core::model::Resources,
}

impl Options {
    /// Reads a config file. Unknown keys are errors.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(config_file::read(path)?)
    }

    /// These options, with `file`'s where these say nothing.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            name: self.name.or(file.name),
            managers: self.managers.or(file.managers),
            plaintext: self.plaintext || file.plaintext,
            address: self.address.or(file.address),
            listen: self.listen.or(file.listen),
            http_listen: self.http_listen.or(file.http_listen),
            advertise: self.advertise.or(file.advertise),
            bind_source: self.bind_source.or(file.bind_source),
            data_dir: self.data_dir.or(file.data_dir),
            labels: self.labels.or(file.labels),
            runtimes: self.runtimes.or(file.runtimes),
            docker_host: self.docker_host.or(file.docker_host),
            cpu_millis: self.cpu_millis.or(file.cpu_millis),
            memory: self.memory.or(file.memory),
            disk: self.disk.or(file.disk),
            reserve_cpu_millis: self.reserve_cpu_millis.or(file.reserve_cpu_millis),
            reserve_memory: self.reserve_memory.or(file.reserve_memory),
            reserve_disk: self.reserve_disk.or(file.reserve_disk),
            disk_pressure_below: self.disk_pressure_below.or(file.disk_pressure_below),
            prune_images_after: self.prune_images_after.or(file.prune_images_after),
            runtime_down_after: self.runtime_down_after.or(file.runtime_down_after),
            max_concurrent_starts: self.max_concurrent_starts.or(file.max_concurrent_starts),
            max_tasks: self.max_tasks.or(file.max_tasks),
            log_level: self.log_level.or(file.log_level),
            log_format: self.log_format.or(file.log_format),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
        }
    }

    /// Fills in defaults and checks what can be checked without looking at the data directory or the network.
    pub fn into_config(self) -> Result<Config, Error> {
        let offer = self.offer();
        let name = self.name.or_else(identity::host_name).ok_or(Error::Missing { key: "name" })?;
        validate::validate_name(&name).map_err(|invalid| Error::Invalid { key: "name", problem: invalid.problem })?;
        // A worker that has joined has learnt some.
        let managers = self.managers.unwrap_or_default();
        if self.plaintext && managers.is_empty() {
            return Err(Error::Missing { key: "managers" });
        }
        managers.iter().try_for_each(|address| checks::check_manager(address))?;
        let labels = self.labels.unwrap_or_default().0;
        checks::check_labels(&labels)?;
        checks::check_max_tasks(self.max_tasks)?;
        let address = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let listen = self.listen.unwrap_or(SocketAddr::new(address, DEFAULT_PORT));
        checks::check_plaintext(self.plaintext, listen)?;
        Ok(Config {
            name,
            managers,
            plaintext: self.plaintext,
            address,
            advertise: checks::advertised(self.advertise, listen, address)?,
            listen,
            http_listen: self.http_listen,
            bind_source: self.bind_source,
            data_dir: values::absolute(self.data_dir.ok_or(Error::Missing { key: "data_dir" })?)?,
            labels,
            runtimes: checks::runtimes(self.runtimes)?,
            docker_host: checks::docker_socket(self.docker_host)?,
            offer,
            disk_pressure_below: self.disk_pressure_below.map(|bytes| bytes.0),
            prune_images_after: self.prune_images_after.unwrap_or(SpanOrNever(Some(PRUNE_IMAGES_AFTER))).0,
            runtime_down_after: self.runtime_down_after.map_or(RUNTIME_DOWN_AFTER, |span| span.0),
            max_concurrent_starts: checks::concurrent_starts(self.max_concurrent_starts)?,
            log_level: self.log_level.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or_default(),
            otlp_endpoint: self.otlp_endpoint,
        })
    }

    fn offer(&self) -> Offer {
        let bytes = |size: Option<Bytes>| size.map(|bytes| bytes.0);
        Offer {
            cpu_millis: self.cpu_millis,
            memory_bytes: bytes(self.memory),
            disk_bytes: bytes(self.disk),
            max_tasks: self.max_tasks,
            reserved: goat_core::model::Resources {
                cpu_millis: self.reserve_cpu_millis.unwrap_or(0),
                memory_bytes: bytes(self.reserve_memory).unwrap_or(0),
                disk_bytes: bytes(self.reserve_disk).unwrap_or(0),
            },
        }
    }
}
