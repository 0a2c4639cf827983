//! Docker daemons of a cluster's own, one for each worker, so that one can be killed or halted while the machine's and
//! the others' live. Needs root.
//!
//! Each is in a network namespace of its own, since a daemon takes the bridge, the addresses and the firewall of the one
//! that it is in for its own; with its directories below the cluster's, and with names of its own at containerd, should
//! the machine have one. Killed with SIGKILL it leaves its containers with their shims, as in life; [`sweep`] ends those.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::Instant;

use crate::echo;
use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::process::{ProcessId, command_lines, parent_of};
use crate::programs;
use crate::runtime::docker_of;
use crate::volumes;

const READY: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
const IP: Duration = Duration::from_secs(10);
/// From SIGKILL until the kernel has cleared up.
const GONE: Duration = Duration::from_secs(10);

/// What all daemons of a cluster have in common.
#[derive(Debug, Clone, Copy, Default)]
pub struct DaemonOptions {
    /// Containers outlive their daemon.
    pub is_live_restore: bool,
    /// Each daemon's data is on a file system of its own of that size.
    pub disk_mib: Option<u32>,
}

/// Why there cannot be daemons here; None: there can.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    ["dockerd", "ip", "nsenter"].into_iter().find(|name| !programs::is_there(name))
}

/// The namespace's name, and the daemon's at containerd.
fn namespace(layout: &Layout, n: u8) -> String {
    format!("goat-{}-d{n}", layout.subnet)
}

/// Makes what the daemon needs before its first start.
pub async fn prepare(layout: &Layout, options: DaemonOptions, n: u8) -> Result<(), Error> {
    let dir = layout.daemon_dir(n);
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    if let Some(mib) = options.disk_mib {
        volumes::mount(&data_root(layout, n), mib)?;
    }
    // Instead of the machine's own, which is not about this one.
    let config = dir.join("daemon.json");
    std::fs::write(&config, "{}").map_err(Error::io("write", &config))?;
    let name = namespace(layout, n);
    ip(&["netns", "add", &name]).await?;
    ip(&["-n", &name, "link", "set", "lo", "up"]).await
}

/// Where the daemon keeps images and containers.
pub fn data_root(layout: &Layout, n: u8) -> PathBuf {
    layout.daemon_dir(n).join("root")
}

/// A program in the daemon's network namespace.
pub fn inside(layout: &Layout, n: u8, program: &str) -> Command {
    let mut command = Command::from(programs::command("nsenter"));
    command.arg(format!("--net=/run/netns/{}", namespace(layout, n))).arg(program);
    command
}

/// The daemon's program and its arguments.
pub fn command(layout: &Layout, options: DaemonOptions, n: u8) -> (PathBuf, Vec<String>) {
    let (dir, name) = (layout.daemon_dir(n), namespace(layout, n));
    let at = |what: &str| dir.join(what).display().to_string();
    let mut args = vec![format!("--net=/run/netns/{name}"), "dockerd".into()];
    let mut add = |flag: &str, value: String| args.extend([format!("--{flag}"), value]);
    add("config-file", at("daemon.json"));
    add("data-root", data_root(layout, n).display().to_string());
    add("exec-root", at("exec"));
    add("pidfile", at("dockerd.pid"));
    add("host", format!("unix://{}", at("docker.sock")));
    add("containerd-namespace", name.clone());
    add("containerd-plugins-namespace", format!("{name}-plugins"));
    add("bip", "172.31.0.1/16".into());
    if options.is_live_restore {
        args.push("--live-restore".into());
    }
    (PathBuf::from("nsenter"), args)
}

/// Waits for the end of the containerd that a daemon had which is gone, and which dies with it. Dead and not reaped yet, it
/// would be taken for running by the next daemon, which would wait for it in vain and end.
pub async fn until_left(layout: &Layout, n: u8) {
    let file = layout.daemon_dir(n).join("exec/containerd/containerd.pid");
    let Ok(pid) = std::fs::read_to_string(file) else { return };
    let (process, deadline) = (Path::new("/proc").join(pid.trim()), Instant::now() + GONE);
    while process.exists() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the daemon answers.
pub async fn ready(layout: &Layout, n: u8) -> Result<(), Error> {
    let deadline = Instant::now() + READY;
    loop {
        // There is no client of a socket that is not there yet.
        if let Ok(client) = docker_of(layout, Member::Worker(n))
            && let Ok(Ok(_)) = tokio::time::timeout(PING, client.ping()).await
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let log = layout.log_path(&format!("d{n}"));
            let seconds = READY.as_secs();
            return Err(Error::failed(format!(
                "dockerd d{n} does not answer after {seconds} s; see {}",
                log.display()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for all daemons, and gives each the image of echo.
pub async fn furnish(layout: &Layout, binaries: &Path) -> Result<(), Error> {
    for n in 1..=layout.workers {
        ready(layout, n).await?;
        echo::ensure_image_at(&docker_of(layout, Member::Worker(n))?, binaries).await?;
    }
    Ok(())
}

/// Ends whatever the daemons have left: containers, shims, namespaces. The daemons themselves are dead already. What is
/// mounted stays for `volumes::unmount_all`.
pub async fn sweep(layout: &Layout) {
    if !layout.has_daemons {
        return;
    }
    end_left(layout, 1..=layout.workers).await;
    for n in 1..=layout.workers {
        // Never made, or gone already.
        let _ = ip(&["netns", "delete", &namespace(layout, n)]).await;
    }
}

/// Of a daemon that is dead already: everything that it had started, containers that were just beginning too, as when the
/// power of its machine goes.
pub async fn power_off(layout: &Layout, n: u8) {
    end_left(layout, n..=n).await;
}

async fn end_left(layout: &Layout, daemons: RangeInclusive<u8>) {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        let left: Vec<_> = daemons.clone().flat_map(|n| left_of(layout, n)).collect();
        if left.is_empty() {
            return;
        }
        left.iter().for_each(|process| process.signal(Signal::SIGKILL));
        tokio::time::sleep(POLL).await;
    }
}

/// Its containerd, its shims, and their children, which are the containers; and its registry.
fn left_of(layout: &Layout, n: u8) -> Vec<ProcessId> {
    let (dir, name) = (layout.daemon_dir(n), namespace(layout, n));
    let is_its = |args: &[String]| {
        let program = args.first().and_then(|program| Path::new(program).file_name()?.to_str()).unwrap_or_default();
        let is_part = ["containerd", "dockerd", "docker-registry"].contains(&program);
        let is_part = is_part || program.starts_with("containerd-shim");
        is_part && args.iter().any(|arg| *arg == name || Path::new(arg).starts_with(&dir))
    };
    let all = command_lines();
    let parts: Vec<i32> = all.iter().filter(|(_, args)| is_its(args)).map(|(pid, _)| *pid).collect();
    let children = all.iter().map(|(pid, _)| *pid).filter(|pid| parent_of(*pid).is_some_and(|of| parts.contains(&of)));
    children.chain(parts.iter().copied()).filter_map(ProcessId::of).filter(ProcessId::is_alive).collect()
}

async fn ip(args: &[&str]) -> Result<(), Error> {
    let mut command = Command::from(programs::command("ip"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(IP, command.output()).await;
    let output = ran
        .map_err(|_| Error::failed(format!("`ip {}` does not end", args.join(" "))))?
        .map_err(Error::io("run", Path::new("ip")))?;
    if output.status.success() {
        return Ok(());
    }
    let problem = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("`ip {}` failed: {}", args.join(" "), problem.trim())))
}
