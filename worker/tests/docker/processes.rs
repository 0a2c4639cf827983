//! Processes and mounts that a test has made, found by the path of its own directory, and ended.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(60);

/// Waits for something to become true.
pub fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn numbers() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes with the directory in their command line: the daemon, its containerd, and the containers' shims.
pub fn of_dir(dir: &Path) -> Vec<i32> {
    let dir = dir.to_str().expect("text");
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() as i32 && String::from_utf8_lossy(&line).contains(dir)
    };
    numbers().into_iter().filter(names).collect()
}

/// Processes below these: those of containers are their shims' children.
pub fn below(parents: &[i32]) -> Vec<i32> {
    let parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok())
    };
    numbers().into_iter().filter(|pid| parent(pid).is_some_and(|parent| parents.contains(&parent))).collect()
}

pub fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn send(pid: i32, signal: Signal) {
    // That it has ended meanwhile is fine.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What is mounted at or below the directory, the innermost first.
fn mounts(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<_> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    below
}

/// Ends everything that was started or mounted with the directory, containers and their control groups included.
pub fn sweep(dir: &Path, cgroup: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let own = of_dir(dir);
        let all: Vec<i32> = below(&own).into_iter().chain(own).filter(|pid| is_running(*pid)).collect();
        if all.is_empty() || Instant::now() > deadline {
            break;
        }
        all.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        std::thread::yield_now();
    }
    for point in mounts(dir) {
        let _ = Command::new("umount").arg("-l").arg(point).output();
    }
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(cgroup)) {
        // A process that was killed leaves its group a moment after it has ended.
        while group.exists() && Instant::now() < deadline {
            remove_groups(&group);
            std::thread::yield_now();
        }
    }
}

/// Control groups are removed as empty directories, the inner ones first.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
