//! testcluster: reads the command line and runs one command. What commands do is the library's.
#![forbid(unsafe_code)]

mod cli;
mod detach;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::{BenchArgs, Cli, Command, UpArgs};
use goat_testcluster::bench::{self, Bench};
use goat_testcluster::cluster::Condition;
use goat_testcluster::control::{Ask, Remote, Status};
use goat_testcluster::drill::Output;
use goat_testcluster::error::Error;
use goat_testcluster::up::{self, Up, say};
use goat_testcluster::{drill, layout, runtime};

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
    let dir = cli.dir.clone().unwrap_or_else(layout::default_dir);
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
            let is_passed = drill::run(args.into_options(cli.dir)).await?;
            return Ok(if is_passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Bench(args) => return bench_it(cli.dir, args).await,
        Command::Status { json } => status(&Remote::open(&dir).await?.status().await?, json),
        Command::Env => {
            let remote = Remote::open(&dir).await?;
            say(&format!("export GOAT_ADDR={}", remote.layout().addresses().join(",")));
        }
        command => break_or_heal(&Remote::open(&dir).await?, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bench_it(dir: Option<PathBuf>, args: BenchArgs) -> Result<ExitCode, Error> {
    let (runtime, why) = runtime::choose(args.runtime.kind()).await?;
    eprintln!("runtime   {why}");
    let dir = dir.unwrap_or_else(|| layout::default_dir().with_extension("bench"));
    let repeat = args.repeat.max(1);
    let figures = bench::run(Bench {
        dir,
        runtime,
        parts: args.parts,
        seconds: args.seconds,
        repeat,
    })
    .await?;
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
        workers: args.workers,
        runtime: args.runtime.kind(),
        port: args.port,
        has_echo: !args.no_echo,
        keep: args.keep,
    }
}

async fn break_or_heal(remote: &Remote, command: Command) -> Result<(), Error> {
    match command {
        Command::Kill { name, with_tasks } => {
            let name = remote.resolve(&name).await?;
            remote.kill(&name, with_tasks).await?;
            say(&format!("killed {name}"));
        }
        Command::Stop { name } => {
            let name = remote.resolve(&name).await?;
            remote.stop(&name).await?;
            say(&format!("stopped {name}"));
        }
        Command::Start { name } => {
            remote.start(&name).await?;
            say(&format!("started {name}"));
        }
        Command::Restart { name } => {
            let name = remote.resolve(&name).await?;
            remote.stop(&name).await?;
            remote.start(&name).await?;
            say(&format!("restarted {name}"));
        }
        Command::Freeze { name } => {
            let name = remote.resolve(&name).await?;
            remote.ask(&Ask::Freeze { name: name.clone() }).await?;
            say(&format!("froze {name}; it goes on with: testcluster thaw {name}"));
        }
        Command::Thaw { name } => {
            remote.ask(&Ask::Thaw { name: name.clone() }).await?;
            say(&format!("{name} goes on"));
        }
        Command::Cut { from, to, one_way } => {
            let (from, to) = (end(remote, &from).await?, end(remote, &to).await?);
            remote
                .ask(&Ask::Cut {
                    from: from.clone(),
                    to: to.clone(),
                    one_way,
                })
                .await?;
            let arrow = if one_way { "->" } else { "<->" };
            say(&format!("cut {from} {arrow} {to}; it ends with: testcluster heal"));
        }
        Command::Delay { from, to, ms, one_way } => {
            let (from, to) = (end(remote, &from).await?, end(remote, &to).await?);
            remote
                .ask(&Ask::Delay {
                    from: from.clone(),
                    to: to.clone(),
                    one_way,
                    delay_ms: ms,
                })
                .await?;
            say(&format!("{from} to {to} takes {ms} ms"));
        }
        Command::Heal => {
            remote.ask(&Ask::Heal).await?;
            say("all links are whole");
        }
        Command::Down { keep } => {
            remote.ask(&Ask::Down { keep }).await?;
            say(&format!("the cluster in {} is down", remote.layout().dir.display()));
        }
        Command::Up(_) | Command::Drill(_) | Command::Bench(_) | Command::Status { .. } | Command::Env => {
            return Err(Error::usage("that needs no running cluster"));
        }
    }
    Ok(())
}

/// One end of a link: a member, or everybody outside.
async fn end(remote: &Remote, name: &str) -> Result<String, Error> {
    if name == layout::CLIENT {
        Ok(name.to_owned())
    } else {
        remote.resolve(name).await
    }
}

fn status(status: &Status, json: bool) {
    if json {
        say(&serde_json::to_string_pretty(status).expect("it is plain data"));
        return;
    }
    say(&format!("{:<6} {:<24} {:<8} {}", "NAME", "STATE", "PID", "ADDRESS"));
    for member in &status.members {
        let condition = match &member.condition {
            Condition::Running => "running".to_owned(),
            Condition::Frozen => "frozen".to_owned(),
            Condition::Stopped => "stopped".to_owned(),
            Condition::Ended(how) => format!("ended by itself ({how})"),
        };
        let pid = member.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        say(&format!(
            "{:<6} {condition:<24} {pid:<8} {}",
            member.name, member.address
        ));
    }
    for link in &status.links {
        say(&format!("link  {link}"));
    }
    say(&format!(
        "in {}, supervisor {}",
        status.layout.dir.display(),
        status.pid
    ));
}
