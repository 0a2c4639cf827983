//! The simulator's command line: one seed, many seeds, simulated years, or a script. The clock of the machine is read here
//! alone, to say how fast it goes.

mod campaign;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use goat_simulator::script::{Bug, Script, Shape};
use goat_simulator::shrink::shrink;
use goat_simulator::world::World;

/// Simulated clusters around the real core of GOAT, judged after every step. Ends with 1 where something is found.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Run this seed alone, and shrink it if it fails
    #[arg(long, conflicts_with_all = ["runs", "years", "script"])]
    seed: Option<u64>,
    /// Run so many seeds
    #[arg(long, default_value_t = 1_000)]
    runs: u64,
    /// Run until so many years have been simulated
    #[arg(long, conflicts_with = "runs")]
    years: Option<f64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run a script, as it was written on a failure or with --print
    #[arg(long, conflicts_with_all = ["runs", "years"])]
    script: Option<PathBuf>,
    /// Print the seed's script, and run nothing
    #[arg(long, requires = "seed")]
    print: bool,
    /// Side by side; 0: as many as there are processors
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Where the scripts of failures are written
    #[arg(long, default_value = "simulator-failures")]
    failures: PathBuf,
    /// Do not shrink what fails
    #[arg(long)]
    raw: bool,
    /// Go on after failures, to see how many seeds fail
    #[arg(long)]
    keep_going: bool,
    /// Say so if one of the things that should be exercised never was
    #[arg(long)]
    demand_coverage: bool,
    /// A world in which something is wrong: how many seeds find it. `all`, or a name
    #[arg(long, value_parser = bug)]
    bug: Option<Bugs>,
}

/// Not seen through by the parser of the command line: one word may name them all.
type Bugs = Vec<Bug>;

fn bug(text: &str) -> Result<Bugs, String> {
    if text == "all" {
        return Ok(Bug::ALL.to_vec());
    }
    let named = serde_json::from_value(serde_json::Value::String(text.into()));
    named.map(|bug| vec![bug]).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("goat-simulator: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was found.
fn run(options: &Options) -> anyhow::Result<bool> {
    if let Some(path) = &options.script {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        return one(Script::from_text(&text)?, options);
    }
    if let Some(bugs) = &options.bug {
        return campaign::find_bugs(bugs, options.from, options.runs);
    }
    match options.seed {
        Some(seed) if options.print => {
            print!("{}", Script::drawn(seed).to_text());
            Ok(true)
        }
        Some(seed) => one(Script::drawn(seed), options),
        None => campaign::run(options),
    }
}

fn one(script: Script, options: &Options) -> anyhow::Result<bool> {
    let seed = script.shape.seed;
    let ended = World::new(script.clone()).run();
    println!("seed {seed}: {} s simulated, state {:016x}\n{}", ended.simulated_ms / 1_000, ended.hash, ended.coverage);
    let Some(failure) = ended.failure else {
        println!("nothing was found");
        return Ok(true);
    };
    println!("FAILED: {failure}");
    report_failure(&script, options)?;
    Ok(false)
}

/// Shrinks what failed and writes it down.
fn report_failure(script: &Script, options: &Options) -> anyhow::Result<()> {
    let tell = |events, runs| eprintln!("shrinking: {events} events left after {runs} runs");
    let (script, failure) = match options.raw {
        true => (script.clone(), String::new()),
        false => shrink(script, tell).unwrap_or_else(|| (script.clone(), String::new())),
    };
    let path = write(&options.failures, &script, &failure)?;
    println!("{} events are left: {failure}", script.events.len());
    println!("again with: goat-simulator --script {}", path.display());
    Ok(())
}

fn write(dir: &Path, script: &Script, failure: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    let path = dir.join(format!("seed-{}.script", script.shape.seed));
    let said: String = failure.lines().map(|line| format!("# {line}\n")).collect();
    fs::write(&path, said + &script.to_text()).with_context(|| format!("{}", path.display()))?;
    Ok(path)
}

/// The world of a seed, with something wrong in it.
fn with_bug(seed: u64, bug: Bug) -> Script {
    Script::of(Shape { bug: Some(bug), ..Shape::drawn(seed) })
}

/// Where nothing else was said.
fn jobs(options: &Options) -> anyhow::Result<usize> {
    match options.jobs {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        jobs if jobs <= 256 => Ok(jobs),
        jobs => bail!("--jobs {jobs}: at most 256"),
    }
}
