//! `proving`: plays rounds until the time is up, tells how they went, and ends with 1 where something was wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use goat_proving::chaos::{self, Chaos, Control};
use goat_proving::power::damage::{Damages, Tally};
use goat_proving::power::{self, FileSystem, Outages};
use goat_proving::report::Report;
use goat_proving::round::Round;
use goat_testcluster::taskset::TaskSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// On one cluster, before it is judged and another one made.
const DAMAGES_PER_ROUND: usize = 10;

#[derive(Debug, Parser)]
#[command(name = "proving", version, about = "Breaks real managers under load, and checks every answer they gave")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Of the first round; each later one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory of the clusters; what failed is kept beside it [default: /tmp/goat-proving-UID]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Clients on every manager through kills, freezes, cuts and changes of members; every answer is checked
    Histories {
        /// How long
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
        /// Length of one round, in seconds
        #[arg(long, default_value_t = 45)]
        round: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Managers lose power under load, one, most or all at once; everything acknowledged has to be there afterwards. Needs
    /// root and loop devices
    Power(PowerOptions),
    /// Managers, workers, their Docker daemons, disks, clocks and links fail, several at a time, in clusters of real
    /// containers. Needs root and Docker
    Chaos(ChaosOptions),
    /// One manager's files are damaged while it does not run: it has to refuse to start, or to be none the worse
    Damage {
        /// How many times
        #[arg(long, default_value_t = 20)]
        cases: usize,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct PowerOptions {
    /// How many power losses
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// So many on one cluster, before it is judged and another one made
    #[arg(long, default_value_t = 20)]
    per_round: usize,
    /// On what the data is; with several, rounds take turns
    #[arg(long, value_delimiter = ',', default_value = "ext4")]
    system: Vec<System>,
    /// With managers that do not sync their logs: acknowledged writes have to be lost, or the test sees nothing
    #[arg(long)]
    control: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct ChaosOptions {
    /// How long; a round that has begun is played to its end
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Length of one storm, in seconds
    #[arg(long, default_value_t = 60)]
    round: u64,
    /// With something broken on purpose in each round, which has to be found, or the test sees nothing
    #[arg(long)]
    control: Option<Control>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum System {
    Ext4,
    Xfs,
}

impl From<System> for FileSystem {
    fn from(system: System) -> Self {
        match system {
            System::Ext4 => Self::Ext4,
            System::Xfs => Self::Xfs,
        }
    }
}

impl Common {
    fn dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| PathBuf::from(format!("/tmp/goat-proving-{}", nix::unistd::getuid())))
    }
}

fn main() -> ExitCode {
    let verb = Cli::parse().command;
    // Before there are other threads, which would keep what they had.
    if matches!(verb, Verb::Power(_))
        && let Err(error) = power::own_mounts()
    {
        eprintln!("error: mounts of this program's own: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let interrupted = CancellationToken::new();
            let signals = listen(&interrupted)?;
            let outcome = run(verb, &interrupted).await;
            signals.stop(Duration::from_secs(1)).await;
            outcome
        })
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn listen(interrupted: &CancellationToken) -> anyhow::Result<TaskSet> {
    let tasks = TaskSet::new("signals");
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let interrupted = interrupted.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        interrupted.cancel();
    });
    Ok(tasks)
}

async fn run(verb: Verb, interrupted: &CancellationToken) -> anyhow::Result<bool> {
    match verb {
        Verb::Histories { minutes, round, common } => {
            let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
            let mut total = Total::default();
            while Instant::now() < until {
                let length = Duration::from_secs(round).min(until - Instant::now()).max(Duration::from_secs(5));
                let seed = common.seed + total.rounds as u64;
                total.add(&Round { seed, dir: common.dir(), length }.run(interrupted).await?);
            }
            Ok(total.tell())
        }
        Verb::Power(options) => lose_power(options, interrupted).await,
        Verb::Chaos(options) => storms(options, interrupted).await,
        Verb::Damage { cases, common } => damage(cases, &common, interrupted).await,
    }
}

async fn storms(options: ChaosOptions, interrupted: &CancellationToken) -> anyhow::Result<bool> {
    let ChaosOptions { minutes, round, control, common } = options;
    if let Some(missing) = chaos::missing() {
        println!("not run: needs {missing}");
        return Ok(true);
    }
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut total = chaos::report::Total::of(control.is_some());
    while total.rounds() == 0 || Instant::now() < until {
        let seed = common.seed + total.rounds() as u64;
        let (dir, storm) = (common.dir(), Duration::from_secs(round));
        total.add(&Chaos { seed, dir, storm, control }.run(interrupted).await?);
    }
    Ok(total.tell())
}

async fn lose_power(options: PowerOptions, interrupted: &CancellationToken) -> anyhow::Result<bool> {
    let PowerOptions { cycles, per_round, system, control, common } = options;
    let systems: Vec<FileSystem> = system.into_iter().map(FileSystem::from).collect();
    if let Some(missing) = systems.iter().find_map(|system| system.missing()) {
        println!("not run: needs {missing}");
        return Ok(true);
    }
    let binaries = if control { Some(power::control::programs(&common.dir())?) } else { None };
    let mut total = Total { is_control: control, ..Total::default() };
    let mut left = cycles;
    while left > 0 {
        let seed = common.seed + total.rounds as u64;
        let system = systems[total.rounds % systems.len()];
        let cycles = left.min(per_round.max(1));
        let outages = Outages { seed, dir: common.dir(), cycles, system, binaries: binaries.clone() };
        total.add(&outages.run(interrupted).await?);
        left -= cycles;
    }
    Ok(total.tell())
}

async fn damage(cases: usize, common: &Common, interrupted: &CancellationToken) -> anyhow::Result<bool> {
    let (mut total, mut tally, mut left) = (Total::default(), Tally::default(), cases);
    while left > 0 {
        let seed = common.seed + total.rounds as u64;
        let cases = left.min(DAMAGES_PER_ROUND);
        total.add(&Damages { seed, dir: common.dir(), cases }.run(&mut tally, interrupted).await?);
        left -= cases;
    }
    print!("{tally}");
    Ok(total.tell())
}

/// Of all rounds.
#[derive(Debug, Default)]
struct Total {
    rounds: usize,
    faults: usize,
    attempts: usize,
    done: usize,
    failed: Vec<u64>,
    /// Acknowledged writes have to be lost in every round.
    is_control: bool,
    saw_nothing: Vec<u64>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        println!("{}", report.line());
        // Of the control, one is enough to be seen.
        let shown = if self.is_control { 1 } else { usize::MAX };
        for violation in report.findings.violations.iter().take(shown) {
            println!("WRONG {violation}");
        }
        self.rounds += 1;
        self.faults += report.faults;
        self.attempts += report.attempts;
        self.done += report.done;
        if !report.findings.is_empty() {
            self.failed.push(report.seed);
        }
        if !report.has_wrong_answers() {
            self.saw_nothing.push(report.seed);
        }
    }

    fn tell(&self) -> bool {
        let Self { rounds, faults, attempts, done, failed, .. } = self;
        println!("{rounds} rounds, {faults} faults, {attempts} attempts, {done} acknowledged writes");
        if self.is_control {
            let lost = rounds - self.saw_nothing.len();
            println!("control: {lost} of {rounds} rounds lost what was acknowledged; every one must");
            return self.saw_nothing.is_empty();
        }
        if !failed.is_empty() {
            println!("failed: seeds {failed:?}; one again with --seed");
        }
        failed.is_empty()
    }
}
