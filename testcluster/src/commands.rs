//! Commands on a running cluster: look at it, break it, heal it.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use goat_testcluster::cluster::Condition;
use goat_testcluster::control::{Ask, Remote, Status};
use goat_testcluster::error::Error;
use goat_testcluster::up::say;
use goat_testcluster::{directory, layout};

use crate::cli::Command;
use crate::detach;
use crate::link_args::LinkArgs;

/// Between two looks of `status -w`.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs a command on the cluster.
pub async fn run(remote: &Remote, command: Command) -> Result<(), Error> {
    match command {
        Command::Status { json, watch } => show_status(remote, json, watch).await?,
        Command::Env => say(&goat_testcluster::view::environment(remote.layout())),
        Command::Logs { name, follow, tail } => logs(remote, name, follow, tail).await?,
        Command::Down { keep } => {
            remote.ask(&Ask::Down { keep }).await?;
            if !keep {
                detach::forget(&remote.layout().dir);
            }
            say(&format!("the cluster in {} is down", remote.layout().dir.display()));
        }
        command => run_on_members(remote, command).await?,
    }
    Ok(())
}

/// Takes down a cluster whose supervisor was killed.
pub async fn end_abandoned(dir: &Path, keep: bool) -> Result<(), Error> {
    // Its own name, as the processes that are looked for know it.
    let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
    directory::end_abandoned(&dir, keep).await?;
    if !keep {
        detach::forget(&dir);
    }
    say(&format!("the supervisor had been killed; the cluster in {} is down", dir.display()));
    Ok(())
}

/// Commands that start and end members.
async fn run_on_members(remote: &Remote, command: Command) -> Result<(), Error> {
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
        Command::Join { name } => {
            remote.join(&name).await?;
            say(&format!("{name} has joined and runs; `goatctl manager ls` shows when it votes"));
        }
        Command::Restart { name } => {
            let name = remote.resolve(&name).await?;
            remote.stop(&name).await?;
            remote.start(&name).await?;
            say(&format!("restarted {name}"));
        }
        Command::Pause { name } => {
            let name = remote.resolve(&name).await?;
            remote.freeze(&name).await?;
            say(&format!("paused {name}; it goes on with: testcluster resume {name}"));
        }
        Command::Resume { name } => {
            remote.thaw(&name).await?;
            say(&format!("{name} goes on"));
        }
        command => run_on_links(remote, command).await?,
    }
    Ok(())
}

/// Commands that change links and disks.
async fn run_on_links(remote: &Remote, command: Command) -> Result<(), Error> {
    match command {
        Command::Cut { from, to, one_way } => {
            let (from, to) = (end(remote, &from).await?, end(remote, &to).await?);
            remote.cut(std::slice::from_ref(&from), std::slice::from_ref(&to), one_way).await?;
            let arrow = if one_way { "->" } else { "<->" };
            say(&format!("cut {from} {arrow} {to}; it ends with: testcluster heal"));
        }
        Command::Delay { from, to, ms, one_way } => {
            let (from, to) = (end(remote, &from).await?, end(remote, &to).await?);
            remote.ask(&Ask::Delay { from: from.clone(), to: to.clone(), one_way, delay_ms: ms }).await?;
            say(&format!("{from} to {to} takes {ms} ms"));
        }
        Command::Isolate { name } => {
            let name = remote.resolve(&name).await?;
            let others = members(remote).into_iter().filter(|other| *other != name).chain([layout::CLIENT.to_owned()]);
            let cuts = remote.cut(std::slice::from_ref(&name), &others.collect::<Vec<_>>(), false).await?;
            say(&format!("isolated {name} ({cuts} links cut); it ends with: testcluster heal"));
        }
        Command::Partition { groups } => {
            let (one, other) = parted(remote, &groups).await?;
            let cuts = remote.cut(&one, &other, false).await?;
            say(&format!(
                "parted {} from {} ({cuts} links cut); it ends with: testcluster heal",
                one.join(","),
                other.join(",")
            ));
        }
        Command::Heal => {
            remote.heal().await?;
            say("all links are whole, and all disks are fast");
        }
        command => slow_down(remote, command).await?,
    }
    Ok(())
}

/// Commands that make links and disks slow.
async fn slow_down(remote: &Remote, command: Command) -> Result<(), Error> {
    match command {
        Command::Link(args) => {
            let (ones, others) = (ends(remote, &args.from).await?, ends(remote, &args.to).await?);
            let links = shape(remote, (&ones, &others), &args).await?;
            let shape = args.shape();
            let shape = if shape.is_none() { "fast again".to_owned() } else { shape.to_string() };
            say(&format!("{links} links: {shape}"));
        }
        Command::SlowDisk(args) => {
            let managers = ends(remote, &args.managers).await?;
            remote.slow_disks(&managers, args.delay).await?;
            say(&format!("each fsync of {} takes {} ms longer", managers.join(", "), args.delay.as_secs_f64() * 1e3));
        }
        _ => return Err(Error::usage("that needs no running cluster")),
    }
    Ok(())
}

/// Shapes the links between two groups; how many they are.
async fn shape(remote: &Remote, (ones, others): (&[String], &[String]), args: &LinkArgs) -> Result<usize, Error> {
    let (shape, one_way) = (args.shape(), args.one_way);
    let mut shaped = std::collections::BTreeSet::new();
    for (from, to) in ones.iter().flat_map(|from| others.iter().map(move |to| (from, to))) {
        // Groups may share members; a single member has no link to itself, and is told so.
        if from == to && (ones.len() > 1 || others.len() > 1) {
            continue;
        }
        remote.ask(&Ask::Shape { from: from.clone(), to: to.clone(), one_way, shape }).await?;
        let (first, second) = if one_way { (from, to) } else { (from.min(to), from.max(to)) };
        shaped.insert((first.clone(), second.clone()));
    }
    Ok(shaped.len())
}

/// Ends of links: one or several separated by commas, or a group.
async fn ends(remote: &Remote, names: &str) -> Result<Vec<String>, Error> {
    let of = |kind: char| members(remote).into_iter().filter(|name| name.starts_with(kind)).collect();
    match names {
        "managers" => return Ok(of('m')),
        "workers" => return Ok(of('w')),
        _ => {}
    }
    let mut ends = Vec::new();
    for name in names.split(',') {
        ends.push(end(remote, name).await?);
    }
    Ok(ends)
}

/// One end of a link: a member, or everybody outside.
async fn end(remote: &Remote, name: &str) -> Result<String, Error> {
    if name == layout::CLIENT { Ok(name.to_owned()) } else { remote.resolve(name).await }
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
            Condition::Frozen => "paused".to_owned(),
            Condition::Stopped => "stopped".to_owned(),
            Condition::Ended(how) => format!("ended by itself ({how})"),
        };
        let pid = member.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        say(&format!("{:<6} {condition:<24} {pid:<8} {}", member.name, member.address));
    }
    for link in &status.links {
        say(&format!("link  {link}"));
    }
    for disk in &status.disks {
        say(&format!("disk  {disk}"));
    }
    say(&format!("in {}, supervisor {}", status.layout.dir.display(), status.pid));
}

async fn show_status(remote: &Remote, json: bool, watch: bool) -> Result<(), Error> {
    loop {
        let now = remote.status().await?;
        if watch && std::io::stdout().is_terminal() {
            // Home, and everything below is cleared.
            say("\x1b[H\x1b[2J");
        }
        status(&now, json);
        if !watch {
            return Ok(());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// By `tail`, which knows how to follow files that begin anew.
async fn logs(remote: &Remote, name: Option<String>, follow: bool, lines: u32) -> Result<(), Error> {
    let names = match name {
        Some(name) => vec![remote.resolve(&name).await?],
        None => members(remote),
    };
    let mut tail = tokio::process::Command::new("tail");
    tail.arg("-n").arg(lines.to_string()).args(follow.then_some("-F"));
    tail.args(names.iter().map(|name| remote.layout().log_path(name)));
    let status = tail.status().await.map_err(Error::io("run", Path::new("tail")))?;
    if status.success() || follow { Ok(()) } else { Err(Error::failed("not all logs could be read")) }
}

fn members(remote: &Remote) -> Vec<String> {
    remote.layout().members().map(|member| member.name()).collect()
}

/// `m1,w1 / m2,m3`, in one word or several.
async fn parted(remote: &Remote, groups: &[String]) -> Result<(Vec<String>, Vec<String>), Error> {
    let text = groups.join(" ");
    let wrong =
        || Error::usage(format!("{text:?}: two groups are expected, as in: testcluster partition m1,w1 / m2,m3"));
    let (one, other) = text.split_once('/').filter(|(_, other)| !other.contains('/')).ok_or_else(wrong)?;
    let mut parted = Vec::new();
    for group in [one, other] {
        let mut names = Vec::new();
        for name in group.split([',', ' ']).filter(|name| !name.is_empty()) {
            names.push(remote.resolve(name).await?);
        }
        parted.push(names);
    }
    let other = parted.pop().unwrap_or_default();
    let one = parted.pop().unwrap_or_default();
    if one.is_empty() || other.is_empty() {
        return Err(wrong());
    }
    match one.iter().find(|name| other.contains(name)) {
        Some(both) => Err(Error::usage(format!("{both} is in both groups"))),
        None => Ok((one, other)),
    }
}
