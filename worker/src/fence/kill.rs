//! Kills a fenced task by whatever way there is: its processes directly, and through Docker.
//!
//! Directly is first: it needs no daemon and takes milliseconds. A container's processes are those whose control group
//! carries its id, under every driver and version of control groups. Through Docker is for an agent that may not signal
//! its containers' processes, and for a container that was created and not started yet: removed, nobody can start it.

use std::path::Path;
use std::time::Duration;

use goat_core::model::Driver;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Fenced;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::process;

/// For the daemon's answer to one call; it may be as dead as the agent.
const DOCKER: Duration = Duration::from_millis(500);
/// Between looks for its processes while Docker does not answer: one that was asked to start it before the lease ended, and
/// stood still since, may do so at any moment.
const LOOK: Duration = Duration::from_millis(25);

/// What is known after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It does not run, and nothing can start it.
    Gone,
    /// It runs, or may.
    NotYet,
}

/// One try; ends within about a second.
pub(super) async fn end(fenced: &Fenced, root: &Path, docker: &DockerRuntime) -> Outcome {
    match fenced.meta.driver {
        Driver::Process => match process::kill_now(root, fenced.meta.task) {
            true => Outcome::Gone,
            false => Outcome::NotYet,
        },
        Driver::Docker => end_container(&fenced.container_id, docker).await,
    }
}

async fn end_container(id: &str, docker: &DockerRuntime) -> Outcome {
    let kill_on = async {
        loop {
            kill_group(id);
            tokio::time::sleep(LOOK).await;
        }
    };
    let removed = tokio::select! {
        biased;
        never = kill_on => never,
        removed = tokio::time::timeout(DOCKER, docker.fence(id)) => removed,
    };
    match removed {
        Ok(Ok(())) => Outcome::Gone,
        // Its processes are killed; but whether it could be started yet nobody says.
        Ok(Err(_)) | Err(_) => Outcome::NotYet,
    }
}

/// Kills every process in the container's control group that may be signalled.
fn kill_group(container_id: &str) {
    // An id that is cut short must not match others.
    if container_id.len() < 32 {
        return;
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let groups = std::fs::read_to_string(entry.path().join("cgroup"));
        if groups.is_ok_and(|groups| groups.contains(container_id)) {
            // What has ended meanwhile, or may not be signalled, is left to Docker.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
