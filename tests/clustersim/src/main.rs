//! `clustersim`: one seed in this process, or many, each in a process of its own.

mod many;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use goat_clustersim::conditions::Slow;
use goat_clustersim::kernel::SECOND;
use goat_clustersim::run::{self, Order, Verdict};
use goat_clustersim::trace::Trace;
use goat_clustersim::world::Shape;

const EXIT_FAILED: u8 = 1;

/// GOAT's managers and workers on a simulated network, disk and clock, the same for the same seed
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// The seed to run in this process
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated minutes of each seed, at the least
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Instead of one: these seeds, from and without the end
    #[arg(long, value_name = "A..B", value_parser = many::range)]
    seeds: Option<std::ops::Range<u64>>,
    /// Of --seeds, so many at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run each of the seeds twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Show what happens: events, -tt every segment, -ttt the programs' own log too
    #[arg(short, long, action = clap::ArgAction::Count)]
    trace: u8,
    #[arg(long, default_value_t = Shape::default().managers)]
    managers: usize,
    #[arg(long, default_value_t = Shape::default().workers)]
    workers: usize,
    /// Managers are far apart, on links with jitter, loss or 1 Mbit/s, as the seed draws it; nothing may stop
    #[arg(long, value_enum, default_value_t, value_name = "SPEED")]
    links: Speed,
    /// Each fsync of managers takes up to 200 ms, as the seed draws it; nothing may stop
    #[arg(long, value_enum, default_value_t, value_name = "SPEED")]
    disks: Speed,
    /// With disks that forget what they said to have synced: something must be found
    #[arg(long)]
    control: bool,
}

/// Speed of links and disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Speed {
    #[default]
    Fast,
    Slow,
}

impl Cli {
    fn slow(&self) -> Slow {
        Slow { links: self.links == Speed::Slow, disks: self.disks == Speed::Slow }
    }

    /// Options of a seed's process that are not the default's.
    fn slow_options(&self) -> String {
        let Slow { links, disks } = self.slow();
        [(links, " --links slow"), (disks, " --disks slow")]
            .map(|(is_slow, text)| if is_slow { text } else { "" })
            .concat()
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let is_fine = match cli.seeds.clone() {
        Some(seeds) => many::run(&many::Batch {
            seeds,
            jobs: cli.jobs,
            is_twice: cli.twice,
            arguments: vec![
                format!("--minutes={}", cli.minutes),
                format!("--managers={}", cli.managers),
                format!("--workers={}", cli.workers),
            ]
            .into_iter()
            .chain(cli.control.then(|| "--control".to_owned()))
            .chain(cli.slow_options().split_whitespace().map(str::to_owned))
            .collect(),
        })?,
        None => one(&cli)?,
    };
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn one(cli: &Cli) -> anyhow::Result<bool> {
    if cli.trace > 2 {
        tracing_subscriber::fmt()
            .with_env_filter("info,openraft=warn")
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    let shape = Shape { managers: cli.managers, workers: cli.workers, is_control: cli.control, ..Shape::default() };
    let order = Order { seed: cli.seed, time: cli.minutes * 60 * SECOND, shape, slow: cli.slow() };
    let verdict = run::run(order, Trace::new(cli.trace > 0, cli.trace > 1))?;
    println!("{}", line(&verdict));
    for violation in &verdict.violations {
        println!("  {violation}");
    }
    if !verdict.violations.is_empty() {
        println!(
            "  again, with what happened: clustersim --seed {} --minutes {}{} --trace",
            verdict.seed,
            cli.minutes,
            cli.slow_options()
        );
    }
    Ok(verdict.violations.is_empty())
}

/// `key=value`, for people and for [`many`].
fn line(verdict: &Verdict) -> String {
    let Verdict { seed, violations, simulated_s, real_s, digest, events, faults, requests, entries, terms, tasks } =
        verdict;
    format!(
        "seed={seed} violations={} simulated_s={simulated_s:.0} real_s={real_s:.2} ratio={:.0} digest={digest:016x} events={events} \
         faults={faults} requests={requests} entries={entries} terms={terms} tasks={tasks}",
        violations.len(),
        simulated_s / real_s.max(0.001)
    )
}
