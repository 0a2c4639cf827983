//! goat-manager: reads its options, runs a manager until a signal, and says why it ended.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use goat_manager::config::{Config, Options};
use goat_manager::newcomer::{Newcomer, Place};
use goat_manager::raft::{self, welcome};
use goat_manager::server::Ground;
use goat_manager::{found, newcomer, offline, server, taskset};
use goat_observe::{Logs, Ring, Traces, Tracing};
use goat_system::{man, problem, stall};
use goat_tls::{JoinToken, token};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// Removed, on an old disk, or on a directory that is nobody's yet: to start it again is of no use.
const EXIT_UNWELCOME: u8 = 3;

/// A manager of a GOAT cluster: replicates the cluster's state and, while it leads, decides
#[derive(Debug, Parser)]
#[command(name = "goat-manager", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

/// How the token comes here. As a word of the command line it is seen by every user of the machine while this runs.
#[derive(Args)]
struct TokenArgs {
    /// What `goatctl cluster join-token manager` prints; better in the environment, or in a file
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
    /// None in plaintext.
    fn read(&self, is_plaintext: bool) -> anyhow::Result<Option<JoinToken>> {
        match (&self.token, &self.token_file, is_plaintext) {
            (_, _, true) => Ok(None),
            (Some(token), _, false) => Ok(Some(token.parse()?)),
            (None, Some(file), false) => Ok(Some(token::read_file(file)?)),
            (None, None, false) => anyhow::bail!(
                "the join token is missing: give --token-file FILE with what `goatctl cluster join-token manager` prints"
            ),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new cluster of one manager in a data directory, and end; `run` starts it
    Init {
        #[command(flatten)]
        place: Place,
        /// Where the first user's credentials go, for goatctl [default: client.pem in the data directory]
        #[arg(long, value_name = "FILE")]
        client: Option<PathBuf>,
        /// Not a new cluster, but the one of a file that `goatctl operator snapshot save` or `backup_dir` made: for when
        /// all managers are lost with their data. On ONE machine only; the others join it. Workers come back by themselves
        /// where they know its address
        #[arg(long, value_name = "FILE")]
        from_snapshot: Option<PathBuf>,
    },
    /// Join a cluster: get a number, mark the data directory with it, and end; `run` starts the manager
    Join {
        /// Managers of the cluster to ask, tried in turn
        #[arg(required = true, value_name = "HOST:PORT")]
        managers: Vec<String>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        token: TokenArgs,
        /// Local address that the connection leaves from
        #[arg(long, env = "GOAT_MANAGER_BIND_SOURCE", value_name = "IP")]
        bind_source: Option<IpAddr>,
    },
    /// Run a manager until SIGTERM or SIGINT; the leader hands over first
    Run {
        /// TOML file with the options below, `-` written as `_`; flags and environment win over it
        #[arg(long, env = "GOAT_MANAGER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Read a data directory to the last byte while no manager runs on it, say what it holds and what is damaged
    Check {
        /// The manager's data directory
        #[arg(long, env = "GOAT_MANAGER_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// When a majority of managers is lost for good: make a cluster of this one alone, out of its data directory
    ///
    /// Says what would be kept, and does it with --yes. Run it on ONE manager only, the one with the most of the log
    /// (`goat-manager check`), while it does not run. Its number, the cluster's id, services and tasks stay; tasks run on.
    /// All other managers are removed for good: their directories are of no more use, and they join anew.
    Recover {
        /// There is no other kind of recovery: say that this one is meant
        #[arg(long, required = true)]
        force_new_cluster: bool,
        /// The manager's data directory
        #[arg(long, env = "GOAT_MANAGER_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
        /// Address at which it is reached from now on [default: as before]
        #[arg(long, env = "GOAT_MANAGER_ADVERTISE", value_name = "HOST:PORT")]
        advertise: Option<String>,
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man { dir: PathBuf },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Verb::Init { place, client, from_snapshot } => init(place, client, from_snapshot),
        Verb::Join { managers, place, token, bind_source } => join(&managers, place, &token, bind_source),
        Verb::Check { data_dir, json } => check(&data_dir, json),
        Verb::Recover { data_dir, advertise, yes, .. } => recover(&data_dir, advertise, yes),
        Verb::Man { dir } => man::write(Cli::command(), &goat_manager::man::BOOK, &dir).map_err(anyhow::Error::from),
        Verb::Run { config, options } => match read(config, *options) {
            Ok(config) => run(config),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", problem::whole(error.as_ref()));
            ExitCode::from(if is_unwelcome(&error) { EXIT_UNWELCOME } else { EXIT_FAILED })
        }
    }
}

fn is_unwelcome(error: &anyhow::Error) -> bool {
    error.is::<welcome::Error>()
        || matches!(error.downcast_ref(), Some(raft::Error::Unwelcome(_) | raft::Error::Empty(_)))
}

fn init(place: Place, client: Option<PathBuf>, from_snapshot: Option<PathBuf>) -> anyhow::Result<()> {
    let newcomer = place.into_newcomer()?;
    let client = client.unwrap_or_else(|| newcomer.data_dir.join("client.pem"));
    let (name, dir) = (&newcomer.name, newcomer.data_dir.display());
    match from_snapshot {
        Some(file) => {
            let restoring = offline::restore::restore(&newcomer, &file, &client);
            println!("{}", small_runtime()?.block_on(restoring)?);
        }
        None => {
            let cluster = small_runtime()?.block_on(found::found(&newcomer, &client))?;
            println!("cluster {cluster} made: manager {name} at {}, data in {dir}", newcomer.address);
        }
    }
    println!("start it:     {}", start_command(&newcomer));
    if !newcomer.is_plaintext {
        println!("credentials:  {}, for goatctl --credentials; keep them secret", client.display());
        println!("add another:  goat-manager join, with what `goatctl cluster join-token manager` prints");
    }
    Ok(())
}

/// The command that starts the manager whose directory was prepared. It can be copied as it is.
fn start_command(newcomer: &Newcomer) -> String {
    let plaintext = if newcomer.is_plaintext { " --plaintext" } else { "" };
    let dir = newcomer.data_dir.display();
    format!("goat-manager run{plaintext} --data-dir {dir} --listen {}", listen(&newcomer.address))
}

/// Where others reach it, if that is no name; else it is for the user to say.
fn listen(address: &str) -> &str {
    if address.parse::<SocketAddr>().is_ok() { address } else { "IP:PORT" }
}

fn join(managers: &[String], place: Place, token: &TokenArgs, bind_source: Option<IpAddr>) -> anyhow::Result<()> {
    let newcomer = place.into_newcomer()?;
    let token = token.read(newcomer.is_plaintext)?;
    let joining = newcomer::join(&newcomer, managers, token.as_ref(), bind_source);
    let (cluster, id) = small_runtime()?.block_on(joining)?;
    let (name, dir) = (&newcomer.name, newcomer.data_dir.display());
    println!("joined cluster {cluster} as manager {name}, number {id}, at {}, data in {dir}", newcomer.address);
    println!("start it:     {}", start_command(&newcomer));
    Ok(())
}

fn check(data_dir: &Path, json: bool) -> anyhow::Result<()> {
    let report = offline::check::check(data_dir)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let problems = report.problems.len();
    anyhow::ensure!(report.is_healthy(), "{} is not as it must be: {problems} found, see above", data_dir.display());
    Ok(())
}

fn recover(data_dir: &Path, advertise: Option<String>, yes: bool) -> anyhow::Result<()> {
    let recovery = offline::recover::plan(data_dir)?;
    print!("{recovery}");
    if recovery.is_done {
        return Ok(());
    }
    if !yes {
        println!("nothing was changed: repeat with --yes to do it");
        return Ok(());
    }
    println!("{}", recovery.perform(advertise)?);
    println!("done. Start it with `goat-manager run`, then add managers with `goat-manager join`");
    Ok(())
}

fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn read(file: Option<PathBuf>, options: Options) -> Result<Config, goat_manager::config::Error> {
    let file = file.map(|path| Options::read(&path)).transpose()?.unwrap_or_default();
    options.or(file).into_config()
}

fn run(config: Config) -> anyhow::Result<()> {
    abort_on_panic();
    let watchdog = stall::Watchdog::start()?;
    let log = Ring::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let tracing = start_telling(&config, &log)?;
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (on_signal, beat) = (stop.clone(), watchdog.watch("the runtime"));
        let signals = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            on_signal.cancel();
        };
        tokio::spawn(async { tokio::join!(signals, beat.keep()) });
        let ground = Ground { watchdog: Some(watchdog), ..Ground::default() };
        let outcome = server::run_on(config, log, ground, stop).await;
        tracing.finish().await;
        outcome
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

/// A manager of which a part is missing is worse than none, since it may lead: without it, another one leads within a second.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        if let Some(task) = taskset::current() {
            eprintln!("error: the task {task:?} of this manager panicked: the process ends itself");
        }
        std::process::abort();
    }));
}

fn start_telling(config: &Config, ring: &Ring) -> Result<Tracing, goat_observe::Error> {
    let logs = Logs {
        level: config.log_level.clone(),
        // openraft warns of each try to reach a peer that is gone, ten times a second; `raft::network` says it once.
        quiet: "openraft=error,",
        format: config.log_format,
        ring: Some(ring.clone()),
    };
    let instance = config.listen.to_string();
    let traces = config.otlp_endpoint.clone().map(|endpoint| Traces { endpoint, service: "goat-manager", instance });
    goat_observe::start(Some(&logs), traces.as_ref())
}
