//! What a cluster is asked to be, and whether it can be that here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::daemons::{self, DaemonOptions};
use crate::error::Error;
use crate::images::FileSystem;
use crate::layout::{MAX_MANAGERS, MAX_WORKERS};
use crate::runtime::{RuntimeKind, docker_socket};

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's own directory; what an earlier cluster left there is removed.
    pub dir: PathBuf,
    pub managers: u8,
    /// Managers that do not run until they join.
    pub spares: u8,
    pub workers: u8,
    pub runtime: RuntimeKind,
    /// Where goat-manager and goat-worker are.
    pub binaries: PathBuf,
    pub front: Option<std::net::SocketAddr>,
    /// More options for every manager, as on its command line.
    pub manager_args: Vec<String>,
    /// More variables of a member's program, by the member's name.
    pub env: BTreeMap<String, Vec<(String, String)>>,
    /// What each worker offers.
    pub cpu_millis: u64,
    pub log_level: String,
    /// Collector of traces.
    pub otlp_endpoint: Option<String>,
    /// Managers are reached directly, so that nothing can be cut: for measurements.
    pub is_direct: bool,
    /// Each manager's data is on a file system of its own of that size, in memory. Needs root.
    pub manager_disk_mib: Option<u32>,
    /// The same for each agent's data. Needs root.
    pub worker_disk_mib: Option<u32>,
    /// Each manager's data is on a file system of its own in a file, whose power can be cut. Needs root.
    pub manager_image: Option<FileSystem>,
    /// The Unix socket of the Docker daemon that workers without one of their own use.
    pub docker_host: Option<PathBuf>,
    /// Each worker has a Docker daemon of its own. Needs root.
    pub daemons: Option<DaemonOptions>,
    /// Managers load a library that slows their disks down when asked to.
    pub slow_disks: bool,
    /// Managers save the state every second, into the cluster's directory.
    pub is_backed_up: bool,
    /// Task limit of each worker. `None`: the worker's own default.
    pub max_tasks: Option<u32>,
}

impl Options {
    pub fn env_of(&self, name: &str) -> &[(String, String)] {
        self.env.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where the programs are: beside this one.
    pub fn binaries() -> Result<PathBuf, Error> {
        let own = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
        let mut binaries = own.parent().unwrap_or(Path::new("/")).to_owned();
        // Tests run from target/debug/deps.
        if binaries.ends_with("deps") {
            binaries.pop();
        }
        Ok(binaries)
    }

    /// Three managers and three workers without echo's front.
    pub fn new(dir: PathBuf, runtime: RuntimeKind) -> Result<Self, Error> {
        Ok(Self {
            dir,
            managers: 3,
            spares: 0,
            workers: 3,
            runtime,
            binaries: Self::binaries()?,
            front: None,
            manager_args: Vec::new(),
            env: BTreeMap::new(),
            cpu_millis: 16_000,
            log_level: "info".into(),
            otlp_endpoint: None,
            is_direct: false,
            manager_disk_mib: None,
            worker_disk_mib: None,
            manager_image: None,
            docker_host: if runtime == RuntimeKind::Docker { Some(docker_socket()?) } else { None },
            daemons: None,
            slow_disks: false,
            is_backed_up: false,
            max_tasks: None,
        })
    }
}

/// Refuses what cannot be started, before anything is.
pub fn check(options: &Options) -> Result<(), Error> {
    if options.managers == 0 || options.managers.saturating_add(options.spares) > MAX_MANAGERS {
        return Err(Error::usage(format!(
            "--managers: from 1 to {MAX_MANAGERS}, spare ones included, best an odd number"
        )));
    }
    if options.workers > MAX_WORKERS {
        return Err(Error::usage(format!("--workers: at most {MAX_WORKERS}")));
    }
    if let (Some(_), Some(missing)) = (options.daemons, daemons::missing()) {
        return Err(Error::failed(format!("Docker daemons of a cluster's own need {missing}")));
    }
    if options.daemons.is_some() && options.runtime != RuntimeKind::Docker {
        return Err(Error::usage("--daemons: only for tasks in containers; leave out --runtime process"));
    }
    for name in ["goat-manager", "goat-worker"] {
        let path = options.binaries.join(name);
        if !path.is_file() {
            return Err(Error::failed(format!("{} is missing; build it with `cargo build -p {name}`", path.display())));
        }
    }
    Ok(())
}
