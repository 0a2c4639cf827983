//! One simulated cluster: managers, workers with their watchdogs, clients, and what can be done to them.
//!
//! | host | what it is |
//! | --- | --- |
//! | 0 .. M | managers |
//! | M .. M+W | workers' agents |
//! | M+W .. M+2W | their watchdogs |
//! | the last | clients |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use goat_tls::Network;
use tempfile::TempDir;

use crate::client::{Client, Desk};
use crate::conditions::Conditions;
use crate::disk::{Disk, Health};
use crate::kernel::{HostId, Kernel, Main};
use crate::machine::Machines;
use crate::manager;
use crate::net::{self, Net};
use crate::trace::Trace;
use crate::witness::Witness;
use crate::worker;

pub use crate::shape::Shape;

const MANAGER_PORT: u16 = 7700;

/// What is done at a time that was set before.
pub(crate) type Deed = Box<dyn FnOnce(&mut World)>;

/// The cluster, and all that is around it.
pub struct World {
    pub shape: Shape,
    pub kernel: Kernel,
    pub net: Net,
    pub disks: Vec<Disk>,
    pub machines: Machines,
    pub desk: Desk,
    pub witness: Witness,
    pub trace: Trace,
    /// How links and disks are throughout.
    pub conditions: Conditions,
    /// How disks are without a fault.
    pub healthy: Health,
    dir: TempDir,
    deeds: BTreeMap<(u64, u64), Deed>,
    planned: u64,
    /// Hosts that are down and will be started.
    pub(crate) is_due_up: Vec<bool>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl World {
    /// Everything is off.
    pub fn new(shape: Shape, seed: u64, trace: Trace) -> std::io::Result<Self> {
        let hosts = shape.hosts();
        let dir = tempfile::Builder::new().prefix("clustersim-").tempdir_in(memory_dir())?;
        let witness = Witness::new(trace.clone());
        let kernel = Kernel::new(hosts, seed);
        let healthy = Health { is_lying: shape.is_control, ..Health::default() };
        let disk = |host| Disk::new(host, seed ^ (host as u64 + 1), witness.clone());
        let disks: Vec<Disk> = (0..shape.managers).map(disk).collect();
        disks.iter().for_each(|disk| disk.set_health(healthy));
        Ok(Self {
            shape,
            kernel,
            net: Net::new(hosts, seed ^ 0x6e65_7400, trace.clone()),
            disks,
            machines: Machines::new(witness.clone(), trace.clone()),
            desk: Desk::new(witness.clone(), trace.clone()),
            witness,
            trace,
            conditions: Conditions::default(),
            healthy,
            dir,
            deeds: BTreeMap::new(),
            planned: 0,
            is_due_up: vec![false; hosts],
        })
    }

    pub const fn is_manager(&self, host: HostId) -> bool {
        host < self.shape.managers
    }

    /// Tells what happens.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.event(self.kernel.now(), what);
    }

    /// Something to be done later.
    pub(crate) fn plan(&mut self, after: u64, deed: impl FnOnce(&mut World) + 'static) {
        self.planned += 1;
        self.deeds.insert((self.kernel.now() + after, self.planned), Box::new(deed));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: u64) {
        let end = self.kernel.now() + time;
        loop {
            let deed = self.deeds.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let next = self.kernel.next().min(self.net.next()).min(deed).min(end);
            self.kernel.advance(next);
            self.trace.set_now(next);
            for (host, waker) in self.net.advance(next) {
                self.kernel.tell(host, waker);
            }
            while self.deeds.first_key_value().is_some_and(|((at, _), _)| *at <= next) {
                if let Some((_, deed)) = self.deeds.pop_first() {
                    deed(self);
                }
            }
            self.kernel.run_due();
            self.bury();
            if next >= end && self.kernel.next().min(self.net.next()) > end {
                return;
            }
        }
    }

    /// Programs that have ended by themselves are started again after a while, as systemd does.
    fn bury(&mut self) {
        for host in 0..self.shape.members() {
            if self.kernel.has_ended(host) {
                self.kill(host);
                self.start_after(host, 2 * crate::kernel::SECOND);
            }
        }
    }

    /// Starts it later, unless somebody does before.
    pub(crate) fn start_after(&mut self, host: HostId, after: u64) {
        self.is_due_up[host] = true;
        self.plan(after, move |world| {
            if world.is_due_up[host] {
                world.start(host);
            }
        });
    }

    /// Starts a host's program; one that runs is left alone.
    pub fn start(&mut self, host: HostId) {
        self.is_due_up[host] = false;
        if self.kernel.is_up(host) {
            return;
        }
        self.net.turn_on(host);
        let main = self.main_of(host);
        self.note(format_args!("host {host} starts"));
        self.kernel.start(host, main);
    }

    pub fn start_all(&mut self) {
        (0..self.shape.hosts()).for_each(|host| self.start(host));
    }

    /// Ends a host's program as SIGKILL does; its machine lives.
    pub fn kill(&mut self, host: HostId) {
        if !self.kernel.is_up(host) {
            return;
        }
        self.note(format_args!("host {host} is killed"));
        self.net.turn_off(host, true);
        if self.is_manager(host) {
            self.disks[host].release();
        }
        self.kernel.kill(host);
    }

    /// Takes the power from a machine.
    pub fn lose_power(&mut self, host: HostId) {
        self.note(format_args!("host {host} loses its power"));
        self.net.turn_off(host, false);
        if self.is_manager(host) {
            self.disks[host].lose_power();
        } else {
            self.machines.lose_power(host);
            let watchdog = self.shape.watchdog(host);
            self.net.turn_off(watchdog, false);
            self.kernel.kill(watchdog);
        }
        self.kernel.kill(host);
    }

    fn addresses(&self) -> Vec<String> {
        (0..self.shape.managers).map(|host| SocketAddr::from((net::ip(host), MANAGER_PORT)).to_string()).collect()
    }

    fn dir_of(&self, host: HostId) -> PathBuf {
        self.dir.path().join(format!("host-{host}"))
    }

    fn main_of(&self, host: HostId) -> Main {
        if host < self.shape.managers {
            self.manager(host)
        } else if host < self.shape.members() {
            self.agent(host)
        } else if host < self.shape.client_host() {
            let agent = host - self.shape.workers;
            Box::pin(worker::watchdog(agent, self.dir_of(agent), self.machines.clone()))
        } else {
            self.clients(host)
        }
    }

    fn network(&self, host: HostId) -> Network {
        Network::other(Arc::new(self.net.fabric(host)))
    }

    fn manager(&self, host: HostId) -> Main {
        let (trace, witness) = (self.trace.clone(), self.witness.clone());
        let start = manager::Start {
            host,
            dir: self.dir_of(host),
            addresses: self.addresses(),
            network: self.network(host),
            base: self.disks[host].base(),
            snapshot_entries: self.shape.snapshot_entries,
        };
        Box::pin(async move {
            if let Err(error) = manager::run(start).await {
                trace.event(trace.now(), format_args!("host {host} ends: {error:#}"));
                manager::judge_end(&witness, host, &error);
            }
        })
    }

    fn agent(&self, host: HostId) -> Main {
        let trace = self.trace.clone();
        let place = worker::Place {
            host,
            dir: self.dir_of(host),
            managers: self.addresses(),
            network: self.network(host),
            machines: self.machines.clone(),
            witness: self.conditions.is_any().then(|| self.witness.clone()),
        };
        Box::pin(async move {
            if let Err(error) = worker::run(place).await {
                trace.event(trace.now(), format_args!("host {host} ends: {error:#}"));
            }
        })
    }

    fn clients(&self, host: HostId) -> Main {
        let (desk, addresses, network) = (self.desk.clone(), self.addresses(), self.network(host));
        let Shape { clients, pace_ms, .. } = self.shape;
        Box::pin(async move {
            let client = |number| Client::new(number, &addresses, network.clone(), desk.clone(), pace_ms).run();
            futures::future::join_all((0..clients).map(client)).await;
        })
    }
}

/// A directory in memory where there is one: what is written there is no part of what is simulated.
fn memory_dir() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}
