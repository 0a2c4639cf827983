//! Options: from a TOML file, the environment and flags, the later one over the earlier one.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use goat_core::lease::LeasePolicy;
pub use goat_observe::LogFormat;
use goat_system::config_file;
use serde::Deserialize;

use crate::backup::schedule::Schedule;

/// The options are wrong; the text says which and what is right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] config_file::Error),
    #[error("{key} is missing: set it in the config file, with --{flag} or with {env}", flag = .key.replace('_', "-"), env = format!("GOAT_MANAGER_{}", .key.to_uppercase()))]
    Missing { key: &'static str },
    #[error("{key}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

/// Every option may come from the file, the environment (`GOAT_MANAGER_` and the key in capitals) or a flag.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Address to listen on, for clients, workers and managers [default: 127.0.0.1:7700]
    #[arg(long, env = "GOAT_MANAGER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the pages /healthz, /readyz and /metrics, over plain HTTP: nothing in them is secret [default: none]
    #[arg(long, env = "GOAT_MANAGER_HTTP_LISTEN", value_name = "IP:PORT")]
    pub http_listen: Option<SocketAddr>,
    /// Directory for the log and the state; this manager's alone
    #[arg(long, env = "GOAT_MANAGER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The cluster was made without encryption and certificates; on this machine's loopback only
    #[arg(long, env = "GOAT_MANAGER_PLAINTEXT")]
    pub plaintext: bool,
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
    /// Directory for snapshots of the state that this manager saves at intervals; it has to exist
    #[arg(long, env = "GOAT_MANAGER_BACKUP_DIR", value_name = "DIR")]
    pub backup_dir: Option<PathBuf>,
    /// Between those, as 30m or 1h [default: 1h]
    #[arg(long, env = "GOAT_MANAGER_BACKUP_EVERY", value_name = "TIME")]
    pub backup_every: Option<String>,
    /// How many of them stay [default: 24]
    #[arg(long, env = "GOAT_MANAGER_BACKUP_KEEP", value_name = "COUNT")]
    pub backup_keep: Option<usize>,
    /// What is logged: error, warn, info, debug, trace, or directives such as goat_manager=debug [default: info]
    #[arg(long, env = "GOAT_MANAGER_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "GOAT_MANAGER_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Collector that gets the traces of requests that are traced, over OTLP, as in http://127.0.0.1:4317 [default: none]
    #[arg(long, env = "GOAT_MANAGER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Options that are complete and fit together.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub http_listen: Option<SocketAddr>,
    pub data_dir: PathBuf,
    pub plaintext: bool,
    pub bind_source: Option<IpAddr>,
    pub heartbeat_interval_ms: u64,
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
    pub worker_heartbeat_ms: u64,
    pub lease_ttl_ms: u64,
    pub snapshot_entries: u64,
    pub backup: Option<Schedule>,
    pub log_level: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: Option<String>,
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
            listen: self.listen.or(file.listen),
            http_listen: self.http_listen.or(file.http_listen),
            data_dir: self.data_dir.or(file.data_dir),
            plaintext: self.plaintext || file.plaintext,
            bind_source: self.bind_source.or(file.bind_source),
            heartbeat_interval_ms: self.heartbeat_interval_ms.or(file.heartbeat_interval_ms),
            election_timeout_min_ms: self.election_timeout_min_ms.or(file.election_timeout_min_ms),
            election_timeout_max_ms: self.election_timeout_max_ms.or(file.election_timeout_max_ms),
            worker_heartbeat_ms: self.worker_heartbeat_ms.or(file.worker_heartbeat_ms),
            lease_ttl_ms: self.lease_ttl_ms.or(file.lease_ttl_ms),
            snapshot_entries: self.snapshot_entries.or(file.snapshot_entries),
            backup_dir: self.backup_dir.or(file.backup_dir),
            backup_every: self.backup_every.or(file.backup_every),
            backup_keep: self.backup_keep.or(file.backup_keep),
            log_level: self.log_level.or(file.log_level),
            log_format: self.log_format.or(file.log_format),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
        }
    }

    /// Fills in defaults and checks what can be checked without looking at the machine.
    pub fn into_config(self) -> Result<Config, Error> {
        let backup = backup(self.backup_dir, self.backup_every.as_deref(), self.backup_keep)?;
        let config = Config {
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7700))),
            http_listen: self.http_listen,
            data_dir: self.data_dir.ok_or(Error::Missing { key: "data_dir" })?,
            plaintext: self.plaintext,
            bind_source: self.bind_source,
            heartbeat_interval_ms: self.heartbeat_interval_ms.unwrap_or(100),
            election_timeout_min_ms: self.election_timeout_min_ms.unwrap_or(250),
            election_timeout_max_ms: self.election_timeout_max_ms.unwrap_or(450),
            worker_heartbeat_ms: self.worker_heartbeat_ms.unwrap_or(500),
            lease_ttl_ms: self.lease_ttl_ms.unwrap_or(2_500),
            snapshot_entries: self.snapshot_entries.unwrap_or(20_000),
            backup,
            log_level: self.log_level.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or_default(),
            otlp_endpoint: self.otlp_endpoint,
        };
        config.check_plaintext()?;
        config.check_times()?;
        Ok(config)
    }
}

fn backup(dir: Option<PathBuf>, every: Option<&str>, keep: Option<usize>) -> Result<Option<Schedule>, Error> {
    let invalid = |key, problem: String| Error::Invalid { key, problem };
    let every = humantime::parse_duration(every.unwrap_or("1h"))
        .map_err(|error| invalid("backup_every", format!("{error}; a time as 30m or 1h is expected")))?;
    if every < Duration::from_secs(1) {
        return Err(invalid("backup_every", "use at least 1s".into()));
    }
    let keep = keep.unwrap_or(24);
    if keep == 0 {
        return Err(invalid("backup_keep", "use at least 1, or leave out backup_dir".into()));
    }
    Ok(dir.map(|dir| Schedule { dir, every, keep }))
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

    fn check_plaintext(&self) -> Result<(), Error> {
        if !self.plaintext || self.listen.ip().is_loopback() {
            return Ok(());
        }
        let problem =
            format!("{} can be reached from other machines; without encryption only loopback is allowed", self.listen);
        Err(Error::Invalid { key: "plaintext", problem })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(every: Option<&str>, keep: Option<usize>) -> Result<Option<Schedule>, String> {
        let options = Options {
            data_dir: Some("d".into()),
            backup_dir: Some("b".into()),
            backup_every: every.map(str::to_owned),
            backup_keep: keep,
            ..Options::default()
        };
        options.into_config().map(|config| config.backup).map_err(|error| error.to_string())
    }

    #[test]
    fn saving_at_intervals_has_defaults_and_limits() {
        let hourly = Schedule { dir: "b".into(), every: Duration::from_secs(3_600), keep: 24 };
        assert_eq!(with(None, None), Ok(Some(hourly.clone())));
        let often = Schedule { every: Duration::from_secs(90), keep: 1, ..hourly };
        assert_eq!(with(Some("1m 30s"), Some(1)), Ok(Some(often)));
        assert!(with(Some("soon"), None).is_err_and(|error| error.contains("backup_every")));
        assert!(with(Some("20ms"), None).is_err_and(|error| error.contains("at least 1s")));
        assert!(with(None, Some(0)).is_err_and(|error| error.contains("backup_keep")));
    }
}
