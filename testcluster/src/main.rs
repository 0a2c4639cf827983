//! testcluster: reads the command line and runs one command. What commands do is the library's.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod detach;
mod drill_args;
mod link_args;
mod up_args;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::{BenchArgs, Cli, Command, UpArgs};
use goat_testcluster::bench::{self, Bench, Scale};
use goat_testcluster::control::Remote;
use goat_testcluster::daemons::DaemonOptions;
use goat_testcluster::drill::Output;
use goat_testcluster::error::Error;
use goat_testcluster::up::{self, Up, say};
use goat_testcluster::{directory, drill, layout, runtime};

const SHUTDOWN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli));
    runtime.shutdown_timeout(SHUTDOWN);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let named = cli.named_dir();
    let dir = named.clone().unwrap_or_else(layout::default_dir);
    match cli.command.unwrap_or_else(|| Command::Up(UpArgs::default())) {
        Command::Up(args) if args.detach => detach::up(&dir, &args).await?,
        Command::Up(args) => {
            if args.is_detached {
                // Ctrl-C and the end of the terminal are for others from here on.
                let _ = nix::unistd::setsid();
            }
            up::run(wanted(dir, &args)).await?;
        }
        Command::Drill(args) => {
            let is_passed = drill::run(args.into_options(named)).await?;
            return Ok(if is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Bench(args) => return bench_it(named, args).await,
        Command::Down { keep } if directory::is_abandoned(&dir) && Remote::open(&dir).await.is_err() => {
            commands::end_abandoned(&dir, keep).await?;
        }
        command => commands::run(&Remote::open(&dir).await?, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bench_it(dir: Option<PathBuf>, args: BenchArgs) -> Result<ExitCode, Error> {
    let (runtime, why) = runtime::choose(args.runtime.kind()).await?;
    eprintln!("runtime   {why}");
    let dir = dir.unwrap_or_else(|| layout::default_dir().with_extension("bench"));
    let repeat = args.repeat.max(1);
    let scale = Scale { tasks: args.tasks, entries: args.entries };
    let figures = bench::run(Bench { dir, runtime, parts: args.parts, seconds: args.seconds, repeat, scale }).await?;
    match args.output {
        Output::Json => say(&serde_json::to_string_pretty(&figures).expect("they are plain data")),
        Output::Text => say(&bench::table(&figures)),
    }
    let are_met = figures.iter().all(|figure| figure.is_met);
    Ok(if are_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(dir: PathBuf, args: &UpArgs) -> Up {
    Up {
        dir,
        managers: args.managers,
        spares: args.spare_managers,
        workers: args.workers,
        runtime: args.runtime.kind(),
        port: args.port,
        has_echo: !args.no_echo,
        keep: args.keep,
        daemons: args.daemons.then_some(DaemonOptions { is_live_restore: args.live_restore, disk_mib: None }),
        slow_disks: args.slow_disks,
        otlp_endpoint: args.otlp_endpoint.clone(),
    }
}
