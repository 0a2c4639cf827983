//! Rows of the failure catalogue, and what drills cannot do without.

use super::manager_upgrade::NEXT;
use crate::cluster::Options;
use crate::runtime::RuntimeKind;
use crate::{daemons, programs, slow_disk};

/// A row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Application,
    Resources,
    Docker,
    Agent,
    Machine,
    Managers,
    Bounds,
}

impl Row {
    pub const ALL: [Self; 7] =
        [Self::Application, Self::Resources, Self::Docker, Self::Agent, Self::Machine, Self::Managers, Self::Bounds];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Resources => "resources",
            Self::Docker => "docker daemon",
            Self::Agent => "agent",
            Self::Machine => "machine and partitions",
            Self::Managers => "managers",
            Self::Bounds => "bounds",
        }
    }
}

/// What a drill cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    /// Tasks run in containers.
    Docker,
    /// Tasks run as plain processes.
    Process,
    /// Several Docker daemons of the drill's own.
    Daemons,
    /// A build of goat-manager as a later version might be.
    NextVersion,
    /// The library that slows disks down.
    SlowDisks,
    /// A program that is no part of this project.
    Program(&'static str),
}

impl Need {
    pub fn text(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Docker => "Docker",
            Self::Process => "--runtime process",
            Self::Daemons => "dockerd, ip and nsenter",
            Self::NextVersion => "a manager of another version (testcluster/build next)",
            Self::SlowDisks => "libslow_disk.so (cargo build -p goat-testcluster --example slow_disk)",
            Self::Program(name) => name,
        }
    }

    /// Whether it is there, with tasks in that runtime.
    pub fn is_met(self, runtime: RuntimeKind) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Docker => runtime == RuntimeKind::Docker,
            Self::Process => runtime == RuntimeKind::Process,
            Self::Daemons => daemons::missing().is_none(),
            Self::NextVersion => Options::binaries().is_ok_and(|dir| dir.join(NEXT).join("goat-manager").is_file()),
            Self::SlowDisks => Options::binaries().is_ok_and(|dir| slow_disk::library(&dir).is_ok()),
            Self::Program(name) => programs::is_there(name),
        }
    }
}
