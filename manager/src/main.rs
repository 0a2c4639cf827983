//! goat-manager: reads its options, runs a manager until a signal, and says why it ended.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use goat_manager::config::{Config, LogFormat, Options};
use goat_manager::server;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// A manager of a GOAT cluster: replicates the cluster's state and, while it leads, decides
#[derive(Debug, Parser)]
#[command(name = "goat-manager", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a manager until SIGTERM or SIGINT; the leader hands over first
    Run {
        /// TOML file with the options below, `-` written as `_`; flags and environment win over it
        #[arg(long, env = "GOAT_MANAGER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
}

fn main() -> ExitCode {
    let Verb::Run { config, options } = Cli::parse().command;
    let config = match read(config, *options) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn read(file: Option<PathBuf>, options: Options) -> Result<Config, goat_manager::config::Error> {
    let file = file.map(|path| Options::read(&path)).transpose()?.unwrap_or_default();
    options.or(file).into_config()
}

fn run(config: Config) -> anyhow::Result<()> {
    start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let on_signal = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            on_signal.cancel();
        });
        server::run(config, stop).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    // openraft warns of each try to reach a peer that is gone, ten times a second; `raft::network` says it once.
    let filter = EnvFilter::try_new(format!("openraft=error,{}", config.log_level))
        .map_err(|error| anyhow::anyhow!("log_level: {error}; use error, warn, info, debug or trace"))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}
