//! One cluster of real processes: starts, stops, kills, freezes and cuts off its members by name.
//!
//! Everything that it starts ends with it: by [`Cluster::down`], or when the next supervisor of the directory finds what
//! a killed one left (`ledger`, `remains`).

mod disturb;
mod enter;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::Flock;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::client::Client;
use crate::error::Error;
use crate::layout::{Layout, Member, Part};
use crate::ledger::Ledger;
use crate::links::Links;
pub use crate::options::Options;
use crate::options::check;
use crate::process::Running;
use crate::subnet::{SubnetLock, take_subnet};
use crate::{daemons, directory, echo, launch, remains, volumes};
pub(crate) use enter::ENTER_WITHIN;

/// A leader hands over first; an agent has nothing to wait for.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);

/// How a member fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Running,
    #[serde(rename = "paused")]
    Frozen,
    /// Stopped or killed on request.
    Stopped,
    /// By itself; how.
    Ended(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberStatus {
    pub name: String,
    pub condition: Condition,
    pub pid: Option<i32>,
    pub address: String,
}

/// A running cluster. All methods may be called at the same time; changes to members take turns.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    options: Options,
    links: Links,
    members: Mutex<BTreeMap<String, Running>>,
    ledger: Mutex<Ledger>,
    is_ready: AtomicBool,
    _subnet: SubnetLock,
    _lock: Flock<File>,
}

impl Cluster {
    /// Clears the directory and starts every member but the spare ones. Returns when the managers are a group and the
    /// workers are started.
    pub async fn up(mut options: Options) -> Result<Self, Error> {
        check(&options)?;
        options.dir = directory::make(&options.dir)?;
        let lock = directory::lock(&options.dir)?;
        directory::clear(&options.dir).await?;
        let subnet = take_subnet()?;
        let layout = Layout {
            dir: options.dir.clone(),
            subnet: subnet.subnet,
            managers: options.managers + options.spares,
            spares: options.spares,
            workers: options.workers,
            runtime: options.runtime,
            front: options.front,
            is_direct: options.is_direct,
            has_daemons: options.daemons.is_some(),
            docker_host: options.docker_host.clone(),
        };
        directory::furnish(&layout, options.is_backed_up)?;
        layout.save()?;
        volumes::mount_all(&layout, &options)?;
        disturb::prepare_disks(&layout, &mut options)?;
        let cluster = Self {
            links: Links::new(layout.clone()),
            members: Mutex::default(),
            ledger: Mutex::new(Ledger::open(&options.dir)?),
            layout,
            options,
            is_ready: AtomicBool::new(false),
            _subnet: subnet,
            _lock: lock,
        };
        match cluster.start_all().await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.down(true).await?;
                Err(error)
            }
        }
    }

    async fn start_all(&self) -> Result<(), Error> {
        if self.layout.has_daemons {
            for n in 1..=self.layout.workers {
                daemons::prepare(&self.layout, self.options.daemons.unwrap_or_default(), n).await?;
                self.start(&Part::Daemon(n).name()).await?;
            }
            daemons::furnish(&self.layout, &self.options.binaries).await?;
        }
        self.start_managers().await?;
        self.start_workers().await
    }

    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What was to be started has been: for those who wait for that.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    pub const fn links(&self) -> &Links {
        &self.links
    }

    pub fn client(&self) -> Result<Client, Error> {
        Client::new(&self.layout.addresses(), &self.layout.credentials())
    }

    /// Starts a member that does not run.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.start_from(&self.options.binaries, name).await
    }

    /// Starts a member that does not run, from the programs in another directory.
    pub async fn start_from(&self, binaries: &Path, name: &str) -> Result<(), Error> {
        let part = self.layout.part(name)?;
        if let Part::Daemon(n) = part {
            daemons::until_left(&self.layout, n).await;
        }
        let mut members = self.members.lock().await;
        if let Some(running) = members.get_mut(name)
            && running.ended().is_none()
        {
            return Err(Error::failed(format!("{name} runs already, as process {}", running.id.pid)));
        }
        let (program, args) = match part {
            Part::Member(member) => launch::command(&self.layout, &self.options, binaries, member),
            Part::Daemon(n) => daemons::command(&self.layout, self.options.daemons.unwrap_or_default(), n),
        };
        if let Some(member) = part.member()
            && !self.layout.is_direct
        {
            self.links.open(member).await?;
        }
        let running = Running::start(&program, &args, self.options.env_of(name), &self.layout.log_path(name))?;
        self.ledger.lock().await.add(running.id.clone())?;
        members.insert(name.to_owned(), running);
        Ok(())
    }

    /// Kills a member by SIGKILL. `with_tasks`: a worker's containers or processes too, as if its machine had died.
    pub async fn kill(&self, name: &str, with_tasks: bool) -> Result<(), Error> {
        let part = self.layout.part(name)?;
        if with_tasks && !matches!(part, Part::Member(Member::Worker(_))) {
            return Err(Error::usage(format!("{name} is no worker and has no tasks; leave out --with-tasks")));
        }
        self.take(name).await?.kill().await?;
        if let Some(member) = part.member() {
            self.links.close(member).await;
            if with_tasks {
                remains::kill(&self.layout, member).await?;
            }
        }
        Ok(())
    }

    /// Ends a member by SIGTERM. Tasks of a worker run on.
    pub async fn stop(&self, name: &str) -> Result<(), Error> {
        let part = self.layout.part(name)?;
        let in_time = self.take(name).await?.stop(STOP_GRACE).await?;
        if let Some(member) = part.member() {
            self.links.close(member).await;
        }
        if in_time {
            return Ok(());
        }
        let log = self.layout.log_path(name);
        Err(Error::failed(format!(
            "{name} did not end within {} s and was killed; see {}",
            STOP_GRACE.as_secs(),
            log.display()
        )))
    }

    /// Stops a member's process without ending it.
    pub async fn freeze(&self, name: &str) -> Result<(), Error> {
        self.signal(name, Signal::SIGSTOP).await
    }

    /// Lets a frozen member go on.
    pub async fn thaw(&self, name: &str) -> Result<(), Error> {
        self.signal(name, Signal::SIGCONT).await
    }

    async fn signal(&self, name: &str, signal: Signal) -> Result<(), Error> {
        self.layout.part(name)?;
        let mut members = self.members.lock().await;
        match members.get_mut(name).map(|running| (running.ended().is_none(), running)) {
            Some((true, running)) => running.signal(signal),
            _ => Err(not_running(name)),
        }
    }

    async fn take(&self, name: &str) -> Result<Running, Error> {
        let mut members = self.members.lock().await;
        let mut running = members.remove(name).ok_or_else(|| not_running(name))?;
        if running.ended().is_none() { Ok(running) } else { Err(not_running(name)) }
    }

    pub async fn status(&self) -> Vec<MemberStatus> {
        let mut members = self.members.lock().await;
        let statuses = self.layout.parts().map(|part| {
            let name = part.name();
            let (condition, pid) = match members.get_mut(&name) {
                None => (Condition::Stopped, None),
                Some(running) => match running.ended() {
                    Some(how) => (Condition::Ended(how), None),
                    None if running.is_frozen => (Condition::Frozen, Some(running.id.pid)),
                    None => (Condition::Running, Some(running.id.pid)),
                },
            };
            let address = match part {
                Part::Member(member @ Member::Manager(_)) => self.layout.advertised(member).to_string(),
                Part::Member(member @ Member::Worker(_)) => self.layout.member_ip(member).to_string(),
                Part::Daemon(n) => self.layout.daemon_dir(n).join("docker.sock").display().to_string(),
            };
            MemberStatus { name, condition, pid, address }
        });
        statuses.collect()
    }

    /// Ends everything that was started, and removes the directory unless `keep`.
    pub async fn down(&self, keep: bool) -> Result<(), Error> {
        let members = std::mem::take(&mut *self.members.lock().await);
        let (daemons, mut members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(name, _)| matches!(self.layout.part(name), Ok(Part::Daemon(_))));
        // Nothing that they could still do matters.
        for (_, running) in &mut members {
            running.kill().await?;
        }
        for member in self.layout.members() {
            self.links.close(member).await;
        }
        let removed = remains::remove_all(&self.layout).await;
        for (_, mut running) in daemons {
            running.stop(STOP_GRACE).await?;
        }
        daemons::sweep(&self.layout).await;
        // Of daemons that are gone nothing is left to be removed.
        if !self.layout.has_daemons {
            removed?;
            echo::withdraw(&self.layout).await?;
        }
        if keep { directory::close(&self.layout.dir) } else { directory::remove(&self.layout.dir) }
    }
}

fn not_running(name: &str) -> Error {
    Error::failed(format!("{name} does not run; start it with `testcluster start {name}`"))
}
