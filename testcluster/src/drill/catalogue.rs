//! What can be rehearsed, by row of the failure catalogue, and what each drill needs. Knows no cluster.

use clap::ValueEnum;

use super::role::Scene;
use crate::runtime::RuntimeKind;

/// A drill; or, as the last two, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Kill an agent and start it again within its lease: its tasks are adopted
    AgentRestart,
    /// Kill an agent for good while its machine lives: leased tasks are stopped, then run elsewhere
    AgentKill,
    /// Halt an agent (SIGSTOP) for longer than its lease, then let it go on
    AgentFreeze,
    /// Replace an agent by a new program file: its tasks are untouched
    AgentUpgrade,
    /// Kill a worker's agent and its tasks at once, as a machine dies
    WorkerKill,
    /// Cut a worker off from everybody, both ways, for 5 to 60 s
    WorkerCut,
    /// Cut off what goes from a worker to the others
    WorkerCutOutbound,
    /// Cut off what goes from the others to a worker
    WorkerCutInbound,
    /// Cut a worker off from the leader only: nothing moves
    WorkerCutLeader,
    /// Cut a worker off, both ways or one, by lot
    RandomCuts,
    /// Cut two of three workers off together
    WorkersCut,
    /// Cut the leader and a worker off together from all others
    Minority,
    /// Kill the leader and a worker with its tasks at once
    LeaderAndWorker,
    /// Kill the leading manager by SIGKILL, under writes
    LeaderKill,
    /// Hand leadership over on request
    LeaderTransfer,
    /// Halt the leader (SIGSTOP), then let it go on
    LeaderFreeze,
    /// Cut the leader off from all other members
    LeaderCut,
    /// Cut the leader off together with all workers
    LeaderCutWorkers,
    /// Restart a follower, then the leader, by SIGTERM
    ManagerRestart,
    /// Kill the leader and a follower, and bring both back
    TwoManagersKill,
    /// Kill all managers at once, and bring them back
    AllManagersKill,
    /// Kill one manager after the other, then all at once, under 50 tasks
    ManagersRollingKill,
    /// Say what there is
    List,
    /// Run all of them, and print one table
    All,
}

/// A row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Application,
    Resources,
    Docker,
    Agent,
    Machine,
    Managers,
}

impl Row {
    pub const ALL: [Self; 6] =
        [Self::Application, Self::Resources, Self::Docker, Self::Agent, Self::Machine, Self::Managers];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Resources => "resources",
            Self::Docker => "docker daemon",
            Self::Agent => "agent",
            Self::Machine => "machine and partitions",
            Self::Managers => "managers",
        }
    }
}

/// What a drill cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    /// Tasks run in containers.
    Docker,
    /// A program that is no part of this project.
    Program(&'static str),
}

impl Need {
    pub fn text(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Docker => "Docker",
            Self::Program(name) => name,
        }
    }

    /// Whether it is there, with tasks in that runtime.
    pub fn is_met(self, runtime: RuntimeKind) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Docker => runtime == RuntimeKind::Docker,
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
            }
        }
    }
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Every drill, in the catalogue's order.
    pub fn drills() -> impl Iterator<Item = Self> {
        Row::ALL
            .into_iter()
            .flat_map(|row| Self::value_variants().iter().copied().filter(move |kind| kind.row() == Some(row)))
    }

    /// None for what is no drill.
    pub const fn row(self) -> Option<Row> {
        Some(match self {
            Self::AgentRestart | Self::AgentKill | Self::AgentFreeze | Self::AgentUpgrade => Row::Agent,
            Self::WorkerKill
            | Self::WorkerCut
            | Self::WorkerCutOutbound
            | Self::WorkerCutInbound
            | Self::WorkerCutLeader
            | Self::RandomCuts
            | Self::WorkersCut
            | Self::Minority
            | Self::LeaderAndWorker => Row::Machine,
            Self::LeaderKill
            | Self::LeaderTransfer
            | Self::LeaderFreeze
            | Self::LeaderCut
            | Self::LeaderCutWorkers
            | Self::ManagerRestart
            | Self::TwoManagersKill
            | Self::AllManagersKill
            | Self::ManagersRollingKill => Row::Managers,
            Self::List | Self::All => return None,
        })
    }

    pub const fn needs(self) -> &'static [Need] {
        &[]
    }

    /// The first thing that is missing to run it.
    pub fn missing(self, runtime: RuntimeKind) -> Option<&'static str> {
        self.needs().iter().find(|need| !need.is_met(runtime)).map(|need| need.text())
    }

    /// The cluster that it plays on.
    pub fn scene(self) -> Scene {
        match self {
            Self::ManagersRollingKill => Scene { keep_replicas: 46, ..Scene::default() },
            _ => Scene::default(),
        }
    }

    /// What the project has set itself for a measure, in milliseconds.
    pub fn target_ms(self, measure: &str) -> Option<f64> {
        match (self, measure) {
            (Self::WorkerKill, "replaced (keep)") => Some(5_000.0),
            (Self::LeaderAndWorker, measure) if measure.starts_with("replaced") => Some(8_000.0),
            (Self::WorkerCut | Self::RandomCuts, "replaced (stop)") => Some(10_000.0),
            (_, "API says that there is no quorum") => Some(2_000.0),
            _ => None,
        }
    }
}
