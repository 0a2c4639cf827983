//! `goat-worker`: the agent, and as processes of their own its watchdog and the supervisor of each task of the process
//! runtime.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use goat_core::model::NodeId;
use goat_observe::{LogFormat, Logs, Traces, Tracing};
use goat_system::stall::Watchdog;
use goat_system::{notify, problem};
use goat_tls::{JoinToken, token};
use goat_worker::config::{Config, Options};
use goat_worker::fence::watchdog;
use goat_worker::taskset::TaskSet;
use goat_worker::{agent, credentials, man};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Wrong options, as clap has it.
const USAGE: u8 = 2;
/// Removed from the cluster, or not in one yet: to start it again is of no use.
const REMOVED: u8 = 3;
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
    /// stopped as asked, 1 cannot run, 2 wrong options, 3 removed from the cluster or not in one yet.
    Run {
        /// TOML file with the keys named as the flags are, with _ for -
        #[arg(long, env = "GOAT_WORKER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Join a cluster: get a certificate for this machine into the data directory, and end; `run` starts the agent
    Join {
        /// Managers of the cluster to ask, tried in turn
        #[arg(required = true, value_name = "HOST:PORT")]
        managers: Vec<String>,
        /// Directory for this worker's identity and its tasks' journal: empty, or not there yet
        #[arg(long, env = "GOAT_WORKER_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
        #[command(flatten)]
        token: TokenArgs,
        /// Local address that the connection leaves from
        #[arg(long, env = "GOAT_WORKER_BIND_SOURCE", value_name = "IP")]
        bind_source: Option<IpAddr>,
    },
    /// Supervise one process
    #[command(hide = true)]
    Supervise { dir: PathBuf },
    /// Wait to become the program of a process task
    #[command(hide = true)]
    Hold { dir: PathBuf },
    /// Kill what is leased when the lease of this data directory's agent has ended
    #[command(hide = true)]
    Watchdog {
        dir: PathBuf,
        #[arg(long)]
        node: NodeId,
        #[arg(long)]
        docker_host: String,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man { dir: PathBuf },
}

/// How the token comes here. As a word of the command line it is seen by every user of the machine while this runs.
#[derive(Args)]
struct TokenArgs {
    /// What `goatctl cluster join-token worker` prints; better in the environment, or in a file
    #[arg(long, env = "GOAT_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The same, from the first line of a file; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

impl std::fmt::Debug for TokenArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenArgs").field("token_file", &self.token_file).finish_non_exhaustive()
    }
}

impl TokenArgs {
    fn read(&self) -> anyhow::Result<JoinToken> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(token.parse()?),
            (None, Some(file)) => Ok(token::read_file(file)?),
            (None, None) => anyhow::bail!(
                "the join token is missing: give --token-file FILE with what `goatctl cluster join-token worker` prints"
            ),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Supervise { dir } => {
            let code = goat_worker::runtime::process::supervise::run(&dir);
            ExitCode::from(u8::from(code != 0))
        }
        Command::Hold { dir } => {
            let code = goat_worker::runtime::process::hold::run(&dir);
            ExitCode::from(u8::from(code != 0))
        }
        Command::Watchdog { dir, node, docker_host } => watchdog(&dir, node, &docker_host),
        Command::Join { managers, data_dir, token, bind_source } => {
            ended(join(&managers, &data_dir, &token, bind_source))
        }
        Command::Man { dir } => {
            ended(goat_system::man::write(Cli::command(), &man::BOOK, &dir).map_err(anyhow::Error::from))
        }
        Command::Run { config, options } => run(config, *options),
    }
}

fn join(managers: &[String], dir: &Path, token: &TokenArgs, bind_source: Option<IpAddr>) -> anyhow::Result<()> {
    let token = token.read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (cluster, node) = runtime.block_on(credentials::join(dir, managers, &token, bind_source))?;
    println!("joined cluster {cluster} as node {node}, data in {}", dir.display());
    println!("start it:     goat-worker run --data-dir {}", dir.display());
    Ok(())
}

fn watchdog(dir: &Path, node: NodeId, docker_host: &str) -> ExitCode {
    let logs = Logs { level: "info".into(), quiet: "", format: LogFormat::Text, ring: None };
    // It sends no traces, so there is nothing to finish.
    let logged = goat_observe::start(Some(&logs), None).map_err(anyhow::Error::from);
    if let Err(error) = logged.and_then(|_| Ok(watchdog::run(dir, node, docker_host)?)) {
        eprintln!("goat-worker watchdog: {}", problem::whole(error.as_ref()));
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
    let started = Watchdog::start().and_then(|watchdog| Ok((watchdog, tokio::runtime::Runtime::new()?)));
    let (watchdog, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("goat-worker: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(live(config, watchdog));
    runtime.shutdown_timeout(SHUTDOWN);
    ended(result)
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goat-worker: {}", problem::whole(error.as_ref()));
            match error.downcast_ref() {
                Some(error) if agent::Error::is_final(error) => ExitCode::from(REMOVED),
                _ if error.is::<goat_observe::Error>() => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The agent, until it is told to stop or cannot go on.
async fn live(config: Config, watchdog: Watchdog) -> anyhow::Result<()> {
    let tracing = start_telling(&config)?;
    // An agent whose runtime stands still ends itself: what it runs goes on, and the next agent adopts it.
    let beats = TaskSet::new("watchdog");
    beats.spawn("beat", watchdog.watch("the runtime").keep());
    let stop = CancellationToken::new();
    let result = tokio::select! {
        result = agent::run(config, "/proc/self/exe".into(), stop.clone()) => result.map_err(anyhow::Error::from),
        result = told_to_stop(stop) => result,
    };
    tracing.finish().await;
    result
}

fn configured(file: Option<PathBuf>, options: Options) -> Result<Config, goat_worker::config::Error> {
    let file = match file {
        Some(path) => Options::read(&path)?,
        None => Options::default(),
    };
    options.or(file).into_config()
}

fn start_telling(config: &Config) -> Result<Tracing, goat_observe::Error> {
    let logs = Logs { level: config.log_level.clone(), quiet: "", format: config.log_format, ring: None };
    let instance = config.name.clone();
    let traces = config.otlp_endpoint.clone().map(|endpoint| Traces { endpoint, service: "goat-worker", instance });
    goat_observe::start(Some(&logs), traces.as_ref())
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
    notify::stopping("stops; its tasks run on");
    stop.cancel();
    std::future::pending().await
}
