//! `goat-worker`: the agent, and as processes of their own its watchdog and the supervisor of each task of the process
//! runtime.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use goat_core::model::NodeId;
use goat_worker::config::{Config, LogFormat, Options};
use goat_worker::fence::watchdog;
use goat_worker::{agent, logging};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Wrong options, as clap has it.
const USAGE: u8 = 2;
/// For what blocks when the agent stops.
const SHUTDOWN: Duration = Duration::from_millis(300);

/// Runs containers and processes for a GOAT cluster.
#[derive(Debug, Parser)]
#[command(name = "goat-worker", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT; its tasks run on and are adopted by the next one
    ///
    /// Options come from flags, GOAT_WORKER_* variables and the config file, the first that says something. Exit codes: 0
    /// stopped as asked, 1 cannot run, 2 wrong options.
    Run {
        /// TOML file with the keys named as the flags are, with _ for -
        #[arg(long, env = "GOAT_WORKER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Supervise one process
    #[command(hide = true)]
    Supervise { dir: PathBuf },
    /// Kill what is leased when the lease of this data directory's agent has ended
    #[command(hide = true)]
    Watchdog {
        dir: PathBuf,
        #[arg(long)]
        node: NodeId,
        #[arg(long)]
        docker_host: String,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Supervise { dir } => {
            let code = goat_worker::runtime::process::supervise::run(&dir);
            ExitCode::from(u8::from(code != 0))
        }
        Command::Watchdog { dir, node, docker_host } => watchdog(&dir, node, &docker_host),
        Command::Run { config, options } => run(config, *options),
    }
}

fn watchdog(dir: &Path, node: NodeId, docker_host: &str) -> ExitCode {
    let logged = logging::init("info", LogFormat::Text);
    if let Err(error) = logged.map_err(anyhow::Error::from).and_then(|()| Ok(watchdog::run(dir, node, docker_host)?)) {
        eprintln!("goat-worker watchdog: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(file: Option<PathBuf>, options: Options) -> ExitCode {
    let config = match configured(file, options) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("goat-worker: {error}");
            return ExitCode::from(USAGE);
        }
    };
    abort_on_panic();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("goat-worker: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::select! {
            result = agent::run(config, "/proc/self/exe".into(), stop.clone()) => result.map_err(anyhow::Error::from),
            result = told_to_stop(stop) => result,
        }
    });
    runtime.shutdown_timeout(SHUTDOWN);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goat-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configured(file: Option<PathBuf>, options: Options) -> Result<Config, goat_worker::config::Error> {
    let file = match file {
        Some(path) => Options::read(&path)?,
        None => Options::default(),
    };
    let config = options.or(file).into_config()?;
    logging::init(&config.log_level, config.log_format)?;
    Ok(config)
}

/// An agent of which a part is missing is worse than none: the next one adopts everything.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        std::process::abort();
    }));
}

/// Returns only where signals cannot be heard; otherwise the agent ends first.
async fn told_to_stop(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    std::future::pending().await
}
