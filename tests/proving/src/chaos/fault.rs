//! What can be done to a cluster, and what of it must not be done to by anybody else meanwhile. Does nothing itself.

use std::fmt;

/// A manager by its name, or whoever leads when it is done.
pub const LEADER: &str = "leader";

/// Which way bytes vanish between two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    /// What the first side sends.
    Forth,
    /// What it is sent.
    Back,
}

/// Names of members on two sides of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    pub ones: Vec<String>,
    pub others: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of managers at one moment, and started again.
    KillManagers(Vec<String>),
    /// SIGSTOP of a manager.
    FreezeManager(String),
    /// Every fsync of a manager fails.
    SyncsFail(String),
    /// A manager's disk is full.
    FillManager(String),
    Transfer,
    /// A vote less, and back.
    Demote(String),
    /// Removed, and a new manager of its name joins.
    Replace(String),
    /// The spare manager joins, or is removed.
    Resize,
    KillAgent(String),
    FreezeAgent(String),
    /// A worker with all that it runs, its Docker daemon too.
    KillMachine(String),
    KillDaemon(String),
    StopDaemon(String),
    FreezeDaemon(String),
    /// Where a worker's Docker keeps its data there is no room.
    FillDaemon(String),
    /// Where an agent keeps its journal, its lease and what is to be fenced there is no room.
    FillAgent(String),
    Cut(Sides, Way),
    /// Two sides that reach each other no more; who is on neither reaches both.
    Bridge(Sides),
    Delay(Sides, u64),
    /// The time of day of a member's machine jumps.
    StepClock(String, i64),
    Drain(String),
    /// Of the service that people change.
    Scale(u32),
    Update,
    Recreate,
}

impl Fault {
    /// In totals.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::KillManagers(_) => "kill managers",
            Self::FreezeManager(_) => "freeze a manager",
            Self::SyncsFail(_) => "fail a manager's fsync",
            Self::FillManager(_) => "fill a manager's disk",
            Self::Transfer => "hand leadership over",
            Self::Demote(_) => "demote a manager",
            Self::Replace(_) => "replace a manager",
            Self::Resize => "add or remove a manager",
            Self::KillAgent(_) => "kill an agent",
            Self::FreezeAgent(_) => "freeze an agent",
            Self::KillMachine(_) => "kill a worker's machine",
            Self::KillDaemon(_) => "kill a Docker daemon",
            Self::StopDaemon(_) => "stop a Docker daemon",
            Self::FreezeDaemon(_) => "freeze a Docker daemon",
            Self::FillDaemon(_) => "fill a Docker daemon's disk",
            Self::FillAgent(_) => "fill an agent's disk",
            Self::Cut(_, Way::Both) => "cut links",
            Self::Cut(..) => "cut links one way",
            Self::Bridge(_) => "bridge partition",
            Self::Delay(..) => "delay links",
            Self::StepClock(..) => "step a clock",
            Self::Drain(_) => "drain a worker",
            Self::Scale(_) => "scale a service",
            Self::Update => "update a service",
            Self::Recreate => "remove and create a service",
        }
    }

    /// Only one fault at a time has each of these.
    pub fn claims(&self) -> Vec<String> {
        let daemon = |worker: &str| worker.replacen('w', "d", 1);
        match self {
            Self::KillManagers(names) => names.clone(),
            Self::FreezeManager(name) | Self::SyncsFail(name) | Self::FillManager(name) => vec![name.clone()],
            Self::Transfer | Self::Resize | Self::Demote(_) => vec!["membership".into()],
            Self::Replace(name) => vec!["membership".into(), name.clone()],
            Self::KillAgent(name) | Self::FreezeAgent(name) | Self::FillAgent(name) => vec![name.clone()],
            Self::KillMachine(name) => vec![name.clone(), daemon(name)],
            Self::KillDaemon(name) | Self::StopDaemon(name) | Self::FreezeDaemon(name) | Self::FillDaemon(name) => {
                vec![daemon(name)]
            }
            Self::Cut(..) | Self::Bridge(_) | Self::Delay(..) => Vec::new(),
            Self::StepClock(name, _) => vec![format!("clock of {name}")],
            Self::Drain(_) => vec!["drain".into()],
            Self::Scale(_) | Self::Update => vec!["busy".into()],
            Self::Recreate => vec!["passing".into()],
        }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.ones.join(" "), self.others.join(" "))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::KillManagers(names) => write!(f, ": {}", names.join(" ")),
            Self::FreezeManager(name)
            | Self::SyncsFail(name)
            | Self::FillManager(name)
            | Self::Demote(name)
            | Self::Replace(name)
            | Self::KillAgent(name)
            | Self::FreezeAgent(name)
            | Self::KillMachine(name)
            | Self::KillDaemon(name)
            | Self::StopDaemon(name)
            | Self::FreezeDaemon(name)
            | Self::FillDaemon(name)
            | Self::FillAgent(name)
            | Self::Drain(name) => write!(f, ": {name}"),
            Self::Cut(sides, Way::Back) => write!(f, ": {sides}, what these are sent"),
            Self::Cut(sides, _) | Self::Bridge(sides) => write!(f, ": {sides}"),
            Self::Delay(sides, ms) => write!(f, ": {sides}, {ms} ms"),
            Self::StepClock(name, ms) => write!(f, ": {name} by {ms} ms"),
            Self::Scale(replicas) => write!(f, " to {replicas}"),
            Self::Transfer | Self::Resize | Self::Update | Self::Recreate => Ok(()),
        }
    }
}
