//! Options: from a TOML file, the environment and flags, the later one over the earlier one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use goat_core::lease::LeasePolicy;
use serde::Deserialize;

/// The options are wrong; the text says which and what is right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the config file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("config file {path}: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{key} is missing: set it in the config file, with --{flag} or with {env}", flag = .key.replace('_', "-"), env = format!("GOAT_MANAGER_{}", .key.to_uppercase()))]
    Missing { key: &'static str },
    #[error("{key}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

/// `ID=NAME@HOST:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: u64,
    pub name: String,
    pub address: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a peer: ID=NAME@HOST:PORT is expected, as in 1=m1@10.0.0.1:7700");
        let (id, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (name, address) = rest.split_once('@').ok_or_else(wrong)?;
        let id = id.trim().parse().map_err(|_| wrong())?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if id == 0 || name.is_empty() || host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self { id, name: name.to_owned(), address: address.to_owned() })
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Every option may come from the file, the environment (`GOAT_MANAGER_` and the key in capitals) or a flag.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// This manager's number: from 1, its own in the group, never used again
    #[arg(long, env = "GOAT_MANAGER_ID")]
    pub id: Option<u64>,
    /// This manager's name [default: m and the id]
    #[arg(long, env = "GOAT_MANAGER_NAME")]
    pub name: Option<String>,
    /// Address to listen on, for clients, workers and managers [default: 127.0.0.1:7700]
    #[arg(long, env = "GOAT_MANAGER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address at which the others reach this manager [default: its own in `peers`]
    #[arg(long, env = "GOAT_MANAGER_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Directory for the log and the state; this manager's alone
    #[arg(long, env = "GOAT_MANAGER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// All first managers of the cluster, this one included, the same list on each
    #[arg(long, env = "GOAT_MANAGER_PEERS", value_name = "ID=NAME@HOST:PORT", value_delimiter = ',')]
    pub peers: Option<Vec<Peer>>,
    /// Local address that connections to other managers leave from
    #[arg(long, env = "GOAT_MANAGER_BIND_SOURCE", value_name = "IP")]
    pub bind_source: Option<IpAddr>,
    /// How often the leader lets followers know that it leads [default: 100]
    #[arg(long, env = "GOAT_MANAGER_HEARTBEAT_INTERVAL_MS", value_name = "MS")]
    pub heartbeat_interval_ms: Option<u64>,
    /// A follower that hears nothing for the maximum, and then for a random time from minimum to maximum, stands for
    /// election [default: 250]
    #[arg(long, env = "GOAT_MANAGER_ELECTION_TIMEOUT_MIN_MS", value_name = "MS")]
    pub election_timeout_min_ms: Option<u64>,
    /// See --election-timeout-min-ms [default: 450]
    #[arg(long, env = "GOAT_MANAGER_ELECTION_TIMEOUT_MAX_MS", value_name = "MS")]
    pub election_timeout_max_ms: Option<u64>,
    /// How often workers report that they live [default: 500]
    #[arg(long, env = "GOAT_MANAGER_WORKER_HEARTBEAT_MS", value_name = "MS")]
    pub worker_heartbeat_ms: Option<u64>,
    /// How long a worker's lease on its tasks lasts without a renewal [default: 2500]
    #[arg(long, env = "GOAT_MANAGER_LEASE_TTL_MS", value_name = "MS")]
    pub lease_ttl_ms: Option<u64>,
    /// A snapshot is taken after so many log entries [default: 20000]
    #[arg(long, env = "GOAT_MANAGER_SNAPSHOT_ENTRIES", value_name = "COUNT")]
    pub snapshot_entries: Option<u64>,
    /// What is logged: error, warn, info, debug, trace, or directives such as goat_manager=debug [default: info]
    #[arg(long, env = "GOAT_MANAGER_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "GOAT_MANAGER_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Options that are complete and fit together.
#[derive(Debug, Clone)]
pub struct Config {
    pub id: u64,
    pub name: String,
    pub listen: SocketAddr,
    pub advertise: String,
    pub data_dir: PathBuf,
    pub peers: Vec<Peer>,
    pub bind_source: Option<IpAddr>,
    pub heartbeat_interval_ms: u64,
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
    pub worker_heartbeat_ms: u64,
    pub lease_ttl_ms: u64,
    pub snapshot_entries: u64,
    pub log_level: String,
    pub log_format: LogFormat,
}

impl Options {
    /// Reads a config file. Unknown keys are errors.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// These options, with `file`'s where these say nothing.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            id: self.id.or(file.id),
            name: self.name.or(file.name),
            listen: self.listen.or(file.listen),
            advertise: self.advertise.or(file.advertise),
            data_dir: self.data_dir.or(file.data_dir),
            peers: self.peers.or(file.peers),
            bind_source: self.bind_source.or(file.bind_source),
            heartbeat_interval_ms: self.heartbeat_interval_ms.or(file.heartbeat_interval_ms),
            election_timeout_min_ms: self.election_timeout_min_ms.or(file.election_timeout_min_ms),
            election_timeout_max_ms: self.election_timeout_max_ms.or(file.election_timeout_max_ms),
            worker_heartbeat_ms: self.worker_heartbeat_ms.or(file.worker_heartbeat_ms),
            lease_ttl_ms: self.lease_ttl_ms.or(file.lease_ttl_ms),
            snapshot_entries: self.snapshot_entries.or(file.snapshot_entries),
            log_level: self.log_level.or(file.log_level),
            log_format: self.log_format.or(file.log_format),
        }
    }

    /// Fills in defaults and checks what can be checked without looking at the machine.
    pub fn into_config(self) -> Result<Config, Error> {
        let id = self.id.ok_or(Error::Missing { key: "id" })?;
        if id == 0 {
            return Err(Error::Invalid { key: "id", problem: "0 is no manager's number; number them from 1".into() });
        }
        let name = self.name.unwrap_or_else(|| format!("m{id}"));
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7700)));
        let peers = self.peers.unwrap_or_else(|| {
            let address = self.advertise.clone().unwrap_or_else(|| listen.to_string());
            vec![Peer { id, name: name.clone(), address }]
        });
        check_peers(&peers)?;
        let own = peers.iter().find(|peer| peer.id == id).ok_or_else(|| Error::Invalid {
            key: "peers",
            problem: format!("manager {id} itself is not among them; list all first managers, this one included"),
        })?;
        if own.name != name {
            return Err(Error::Invalid {
                key: "name",
                problem: format!("this manager is called {name:?} but {:?} in `peers`; make them the same", own.name),
            });
        }
        let advertise = self.advertise.unwrap_or_else(|| own.address.clone());
        if advertise != own.address {
            return Err(Error::Invalid {
                key: "advertise",
                problem: format!(
                    "{advertise} is not this manager's address in `peers`, {}; make them the same",
                    own.address
                ),
            });
        }
        let config = Config {
            id,
            name,
            listen,
            advertise,
            data_dir: self.data_dir.ok_or(Error::Missing { key: "data_dir" })?,
            peers,
            bind_source: self.bind_source,
            heartbeat_interval_ms: self.heartbeat_interval_ms.unwrap_or(100),
            election_timeout_min_ms: self.election_timeout_min_ms.unwrap_or(250),
            election_timeout_max_ms: self.election_timeout_max_ms.unwrap_or(450),
            worker_heartbeat_ms: self.worker_heartbeat_ms.unwrap_or(500),
            lease_ttl_ms: self.lease_ttl_ms.unwrap_or(2_500),
            snapshot_entries: self.snapshot_entries.unwrap_or(20_000),
            log_level: self.log_level.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or_default(),
        };
        config.check_times()?;
        Ok(config)
    }
}

fn check_peers(peers: &[Peer]) -> Result<(), Error> {
    let invalid = |problem: String| Err(Error::Invalid { key: "peers", problem });
    let (mut ids, mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for peer in peers {
        if !ids.insert(peer.id) {
            return invalid(format!("two managers have the id {}; give each its own", peer.id));
        }
        if !names.insert(&peer.name) {
            return invalid(format!("two managers are called {:?}; give each its own name", peer.name));
        }
        if !addresses.insert(&peer.address) {
            return invalid(format!("two managers have the address {}; give each its own", peer.address));
        }
    }
    Ok(())
}

impl Config {
    /// How long workers may be silent, in terms of what is configured.
    pub fn lease_policy(&self) -> LeasePolicy {
        LeasePolicy {
            heartbeat_ms: self.worker_heartbeat_ms,
            lease_ttl_ms: self.lease_ttl_ms,
            disconnected_after_ms: self.worker_heartbeat_ms * 3,
            down_after_ms: self.lease_ttl_ms,
            ..LeasePolicy::default()
        }
    }

    fn check_times(&self) -> Result<(), Error> {
        let invalid = |key, problem: String| Err(Error::Invalid { key, problem });
        if self.heartbeat_interval_ms == 0 || self.heartbeat_interval_ms * 2 > self.election_timeout_min_ms {
            return invalid(
                "heartbeat_interval_ms",
                format!(
                    "{} ms must be above 0 and at most half of election_timeout_min_ms ({} ms), else one late heartbeat starts an election",
                    self.heartbeat_interval_ms, self.election_timeout_min_ms
                ),
            );
        }
        if self.election_timeout_min_ms >= self.election_timeout_max_ms {
            return invalid(
                "election_timeout_max_ms",
                format!(
                    "{} ms must be above election_timeout_min_ms ({} ms)",
                    self.election_timeout_max_ms, self.election_timeout_min_ms
                ),
            );
        }
        if self.worker_heartbeat_ms == 0 || self.worker_heartbeat_ms * 3 > self.lease_ttl_ms {
            return invalid(
                "lease_ttl_ms",
                format!(
                    "{} ms must be at least three times worker_heartbeat_ms ({} ms), so that one lost heartbeat costs no lease",
                    self.lease_ttl_ms, self.worker_heartbeat_ms
                ),
            );
        }
        self.lease_policy().validate().or_else(|error| invalid("lease_ttl_ms", error.to_string()))?;
        if self.snapshot_entries < 100 {
            return invalid("snapshot_entries", format!("{} is too often; use at least 100", self.snapshot_entries));
        }
        Ok(())
    }
}
