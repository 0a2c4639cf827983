//! Kills fenced tasks by whatever way there is: their processes directly, and through Docker.
//!
//! Directly is first: it needs no daemon and takes milliseconds. A container's processes are those whose control group
//! carries its id, under every driver and version of control groups. Through Docker is for an agent that may not signal
//! its containers' processes, and for a container that was created and not started yet: removed, nobody can start it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use goat_core::model::{Driver, TaskId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Fenced;
use super::directory::Directory;
use crate::runtime::docker::{DockerRuntime, container_processes};

/// For the daemon's answer to one call; it may be as dead as the agent.
const DOCKER: Duration = Duration::from_millis(500);
/// Between looks for processes while Docker does not answer: one that was asked to start a container before the lease
/// ended, and stood still since, may do so at any moment.
const LOOK: Duration = Duration::from_millis(25);

/// One try with all of them, side by side: none may wait for what Docker says of another. Ends within about a second,
/// however many they are. Those of which it is known that they do not run and that nothing can start them.
pub(super) async fn end(due: &[Fenced], directory: &Directory, docker: &DockerRuntime) -> BTreeSet<TaskId> {
    let is_gone = |fenced: &&Fenced| fenced.meta.driver == Driver::Process && directory.kill_process(fenced.meta.task);
    let mut gone: BTreeSet<_> = due.iter().filter(is_gone).map(|fenced| fenced.meta.task).collect();
    let containers: Vec<_> = due.iter().filter(|fenced| fenced.meta.driver == Driver::Docker).collect();
    if !containers.is_empty() {
        gone.extend(end_containers(&containers, docker).await);
    }
    gone
}

async fn end_containers(due: &[&Fenced], docker: &DockerRuntime) -> Vec<TaskId> {
    let ids: BTreeSet<_> = due.iter().map(|fenced| fenced.container_id.as_str()).collect();
    let kill_on = async {
        loop {
            kill_groups(&ids);
            tokio::time::sleep(LOOK).await;
        }
    };
    // Without an answer their processes are killed; but whether one could be started yet nobody says.
    let removals = join_all(due.iter().map(|fenced| async {
        let removed = tokio::time::timeout(DOCKER, docker.fence(&fenced.container_id)).await;
        matches!(removed, Ok(Ok(()))).then_some(fenced.meta.task)
    }));
    tokio::select! {
        biased;
        never = kill_on => never,
        removed = removals => removed.into_iter().flatten().collect(),
    }
}

/// Kills every process in the containers' control groups that may be signalled. Where none can be listed, all is left to
/// Docker.
fn kill_groups(ids: &BTreeSet<&str>) {
    let _ = container_processes(Path::new("/proc"), |pid, id| {
        if ids.contains(id) {
            // What has ended meanwhile, or may not be signalled, is left to Docker.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    });
}
