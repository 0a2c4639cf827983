//! What can be rehearsed, by row of the failure catalogue, and what each drill needs. Knows no cluster.

use clap::ValueEnum;

use super::need::{Need, Row};
use super::role::Scene;
use crate::daemons::DaemonOptions;
use crate::runtime::RuntimeKind;

/// Room for what a manager writes, or for a worker's images, in drills that fill a disk.
const SMALL_DISK_MIB: u32 = 256;

/// A drill; or, as the last two, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A service crashes at its start: attempts come at growing intervals, through a killed leader too
    CrashLoop,
    /// A service hangs: its health check stops it, and another starts
    Hang,
    /// A service never becomes ready: stopped after its start period, given up after as many attempts as allowed
    NeverReady,
    /// A task takes more memory than its limit: killed, known as such, given up after as many attempts as allowed
    Oom,
    /// Everything is reserved: what comes later waits, says why, and runs when there is room
    NoRoom,
    /// The registry of an image is gone and back; an image that is not there is reported and not asked for again and again
    RegistryDown,
    /// Fill a worker's disk, so that an image is not pulled there: its task moves, until there is room nothing comes there
    WorkerDiskFull,
    /// Kill a worker's Docker daemon, and start it again
    DockerKill,
    /// The same, with containers that outlive it: nothing ends
    DockerKillLive,
    /// Stop a worker's Docker daemon as its service manager does, and start it again
    DockerRestart,
    /// The same, with containers that outlive it: nothing ends
    DockerRestartLive,
    /// Restart, start, stop, kill, pause, remove, rename, update and copy a leased service's containers by hand: no slot runs twice
    DockerByHand,
    /// Halt a worker's Docker daemon (SIGSTOP), then let it go on: nothing ends
    DockerFreeze,
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
    /// Take all of the machine's CPU and disk: no election, no move, no stop
    Load,
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
    /// Restart all managers one after the other by SIGTERM, the leader last
    ManagersRollingRestart,
    /// Replace all managers by another version and back, then for good
    ManagerUpgrade,
    /// Let the cluster grow from one manager to five, replace the leader, and let it shrink again
    ManagersGrowShrink,
    /// Kill the leader for good, remove it, and let another one join in its place
    ManagerReplace,
    /// Lose two of three managers for good, and make a cluster of the third alone
    QuorumRecover,
    /// Lose all managers with their data, and make the cluster again from a snapshot that one had saved by itself
    SnapshotRestore,
    /// Remove a service and scale another by mistake, and bring both back from a snapshot
    SnapshotUndo,
    /// Kill the leader and a follower, and bring both back
    TwoManagersKill,
    /// Kill all managers at once, and bring them back
    AllManagersKill,
    /// Announce it (`cluster freeze`), kill all managers at once, and bring them back: nothing ends
    PlannedOutage,
    /// Kill one manager after the other, then all at once, under 50 tasks
    ManagersRollingKill,
    /// Fill the leader's disk
    ManagerDiskFull,
    /// Let every fsync of the leader fail
    ManagerFsyncFails,
    /// Round trips of 60, 100, 200 and 300 ms between managers: writes are accepted, nobody is elected, leases are renewed
    SlowLinks,
    /// Every fsync of all managers takes 20, 50, 100 and 200 ms longer, under 64 writers: the same
    SlowDisks,
    /// 1 Mbit/s between managers, a follower far behind: it catches up while writes go on
    ThinLinks,
    /// Specs at the limits of size and count: refused with a clear error, or run; writes go on
    LargeSpecs,
    /// A service is scaled beyond what the cluster holds: refused with the figure; the largest that is accepted runs or waits
    ManyTasks,
    /// `operator debug`, 64 readers of the leader's metrics, and `service rm` of 100,000 tasks: leases, writes and the leader stay
    BusyLeader,
    /// Somebody without a certificate holds connections and requests open: managers keep their memory, members still get in
    Stranger,
    /// A worker with a valid certificate sends messages that are too large, and floods of them: the cluster goes on
    HostileWorker,
    /// A reader of a long log pauses for 25 s: every line arrives, and no session breaks
    StoppedReader,
    /// Say what there is
    List,
    /// Run all of them, and print one table
    All,
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
    pub fn row(self) -> Option<Row> {
        const LAST: [(Kind, Row); 7] = [
            (Kind::NeverReady, Row::Application),
            (Kind::WorkerDiskFull, Row::Resources),
            (Kind::DockerFreeze, Row::Docker),
            (Kind::AgentUpgrade, Row::Agent),
            (Kind::Load, Row::Machine),
            (Kind::ManagerFsyncFails, Row::Managers),
            (Kind::StoppedReader, Row::Bounds),
        ];
        // Drills are declared row by row.
        LAST.into_iter().find(|(last, _)| self as u8 <= *last as u8).map(|(_, row)| row)
    }

    pub const fn needs(self) -> &'static [Need] {
        match self {
            Self::Oom | Self::DockerByHand => &[Need::Docker],
            Self::RegistryDown | Self::WorkerDiskFull => {
                &[Need::Root, Need::Docker, Need::Daemons, Need::Program("docker-registry")]
            }
            Self::DockerKill
            | Self::DockerKillLive
            | Self::DockerRestart
            | Self::DockerRestartLive
            | Self::DockerFreeze => &[Need::Root, Need::Docker, Need::Daemons],
            Self::Load => &[Need::Program("stress-ng")],
            Self::ManagerUpgrade => &[Need::NextVersion],
            Self::ManagerDiskFull => &[Need::Root],
            Self::ManagerFsyncFails => &[Need::Root, Need::Program("strace")],
            Self::SlowDisks => &[Need::SlowDisks],
            Self::StoppedReader => &[Need::Process],
            _ => &[],
        }
    }

    /// The first thing that is missing to run it.
    pub fn missing(self, runtime: RuntimeKind) -> Option<&'static str> {
        self.needs().iter().find(|need| !need.is_met(runtime)).map(|need| need.text())
    }

    /// The cluster that it plays on.
    pub fn scene(self) -> Scene {
        match self {
            Self::ManagersGrowShrink => Scene { managers: 1, spares: 4, ..Scene::default() },
            Self::SnapshotRestore => Scene { is_backed_up: true, ..Scene::default() },
            Self::ManagersRollingKill => Scene { keep_replicas: 46, ..Scene::default() },
            Self::RegistryDown | Self::DockerKill | Self::DockerRestart | Self::DockerFreeze => {
                Scene { daemons: Some(DaemonOptions::default()), ..Scene::default() }
            }
            Self::DockerKillLive | Self::DockerRestartLive => {
                let daemons = DaemonOptions { is_live_restore: true, ..DaemonOptions::default() };
                Scene { daemons: Some(daemons), ..Scene::default() }
            }
            Self::WorkerDiskFull => {
                let daemons = DaemonOptions { disk_mib: Some(SMALL_DISK_MIB), ..DaemonOptions::default() };
                Scene { daemons: Some(daemons), ..Scene::default() }
            }
            Self::SlowDisks => Scene { slow_disks: true, ..Scene::default() },
            // Room for 105,000 tasks.
            Self::BusyLeader => Scene { workers: 21, max_tasks: Some(5_000), ..Scene::default() },
            Self::ManagerDiskFull => Scene { manager_disk_mib: Some(SMALL_DISK_MIB), ..Scene::default() },
            _ => Scene::default(),
        }
    }

    /// What the project has set itself for a measure, in milliseconds.
    pub fn target_ms(self, measure: &str) -> Option<f64> {
        match (self, measure) {
            (Self::WorkerKill, "replaced (keep)") => Some(5_000.0),
            (Self::LeaderAndWorker, measure) if measure.starts_with("replaced") => Some(8_000.0),
            (Self::WorkerCut | Self::RandomCuts, "replaced (stop)") => Some(10_000.0),
            (Self::ManagersGrowShrink | Self::ManagerReplace, "longest write gap") => Some(1_000.0),
            (Self::ThinLinks, "write gap") => Some(2_000.0),
            (Self::BusyLeader, measure) if measure.starts_with("write gap") => Some(200.0),
            (_, "API says that there is no quorum") => Some(2_000.0),
            _ => None,
        }
    }
}
