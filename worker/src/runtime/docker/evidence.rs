//! Whether containers run, where their daemon cannot be asked: by their processes, which the kernel shows in /proc with
//! the container's id in their control group.
//!
//! That a process is seen proves that its container lives. That none is seen proves the contrary only to an observer who
//! would see it: one in a pid namespace of its own, or under `hidepid`, sees nothing and must conclude nothing. So
//! absence counts only after processes of a container that was known to run have been seen from here, on this boot of
//! the machine and in this pid namespace; `sight.json` remembers that for an agent that starts while the daemon is away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::{clock, durable};

/// A container's id as control groups show it.
const ID_CHARS: usize = 64;

/// Where processes of containers have been seen from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    boot_id: String,
    pid_namespace: String,
}

impl Place {
    /// None where the kernel does not tell.
    fn here() -> Option<Self> {
        let pid_namespace = std::fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned();
        Some(Self { boot_id: clock::boot_id(), pid_namespace }).filter(|place| !place.boot_id.is_empty())
    }
}

#[derive(Debug)]
pub(super) struct Sight {
    path: PathBuf,
    is_proved: AtomicBool,
}

impl Sight {
    /// Blocks.
    pub(super) fn open(path: PathBuf) -> Self {
        let proved = durable::read::<Place>(&path).unwrap_or_else(|error| {
            warn!(%error, "whether containers' processes can be seen has to be found out anew");
            None
        });
        let is_proved = AtomicBool::new(proved.is_some() && proved == Place::here());
        Self { path, is_proved }
    }

    /// Looks whether the processes of containers that are known to run can be seen. Once is enough.
    pub(super) async fn prove(&self, running: Vec<String>) {
        if running.is_empty() || self.is_proved.load(Ordering::Relaxed) {
            return;
        }
        let path = self.path.clone();
        let proved = blocking(move || {
            let seen = with_process(Path::new("/proc"), &running).is_some_and(|seen| !seen.is_empty());
            let place = Place::here().filter(|_| seen)?;
            if let Err(error) = durable::write(&path, &place) {
                warn!(%error, "that containers' processes can be seen could not be written down");
            }
            Some(place)
        });
        if proved.await.is_some() {
            debug!("processes of containers can be seen");
            self.is_proved.store(true, Ordering::Relaxed);
        }
    }

    /// Those of the containers that certainly have no process.
    pub(super) async fn without_process(&self, containers: Vec<String>) -> Vec<String> {
        if containers.is_empty() || !self.is_proved.load(Ordering::Relaxed) {
            return Vec::new();
        }
        blocking(move || match with_process(Path::new("/proc"), &containers) {
            Some(seen) => containers.into_iter().filter(|id| id.len() == ID_CHARS && !seen.contains(id)).collect(),
            None => Vec::new(),
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.expect("looking does not panic, and is not aborted")
}

/// Those of the containers that have a process; None where processes cannot be listed.
fn with_process(proc: &Path, containers: &[String]) -> Option<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(proc).ok()? {
        let entry = entry.ok()?;
        let is_process = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|c| c.is_ascii_digit()));
        if !is_process {
            continue;
        }
        // One that has ended meanwhile is none.
        let Ok(groups) = std::fs::read_to_string(entry.path().join("cgroup")) else { continue };
        seen.extend(containers.iter().filter(|id| groups.contains(id.as_str())).cloned());
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(ID_CHARS)
    }

    #[test]
    fn containers_are_found_by_their_processes_under_either_kind_of_control_groups() {
        let proc = tempfile::tempdir().expect("a directory");
        let process = |pid: &str, groups: String| {
            let dir = proc.path().join(pid);
            std::fs::create_dir(&dir).expect("made");
            std::fs::write(dir.join("cgroup"), groups).expect("written");
        };
        process("1", "0::/init.scope\n".into());
        process("20", format!("9:memory:/docker/{}\n1:cpu:/docker/{}\n", id('a'), id('a')));
        process("21", format!("0::/system.slice/docker-{}.scope\n", id('b')));
        process("self", format!("0::/docker/{}\n", id('c')));
        std::fs::create_dir(proc.path().join("22")).expect("one that has ended");
        let seen = with_process(proc.path(), &[id('a'), id('b'), id('c')]);
        assert_eq!(seen, Some([id('a'), id('b')].into()));
        assert_eq!(with_process(&proc.path().join("nowhere"), &[id('a')]), None);
    }

    #[tokio::test]
    async fn absence_proves_nothing_until_presence_was_seen_from_the_same_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sight.json");
        let sight = Sight::open(path.clone());
        assert!(sight.without_process(vec![id('a')]).await.is_empty());
        sight.prove(vec![id('a')]).await;
        assert!(sight.without_process(vec![id('a')]).await.is_empty(), "nothing was seen");
        let here = Place::here().expect("the kernel tells");
        durable::write(&path, &here).expect("written");
        let proved = Sight::open(path.clone());
        assert_eq!(proved.without_process(vec![id('a'), "short".into()]).await, [id('a')]);
        durable::write(&path, &Place { pid_namespace: "pid:[1]".into(), ..here }).expect("written");
        assert!(Sight::open(path).without_process(vec![id('a')]).await.is_empty(), "that was elsewhere");
    }
}
