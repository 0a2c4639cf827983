//! Whether containers run, where their daemon cannot be asked: by their processes, which the kernel shows in /proc with
//! the container's id in their control group.
//!
//! That a process is seen proves that its container lives. That none is seen proves the contrary only to an observer who
//! would see it: one in a pid namespace of its own, or under `hidepid`, sees nothing and must conclude nothing. So
//! absence counts only after processes of a container that was known to run have been seen from here, on this boot of
//! the machine and in this pid namespace; `sight.json` remembers that for an agent that starts while the daemon is away.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::super::{Found, FoundState};
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
            let seen = with_process(Path::new("/proc")).is_some_and(|seen| running.iter().any(|id| seen.contains(id)));
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
        blocking(move || match with_process(Path::new("/proc")) {
            Some(seen) => containers.into_iter().filter(|id| id.len() == ID_CHARS && !seen.contains(id)).collect(),
            None => Vec::new(),
        })
        .await
    }

    /// Those of the containers whose processes speak against what is said of them; where nothing can be concluded from
    /// seeing none, those of which it would count.
    pub(super) async fn doubtful(&self, listed: &[Found]) -> BTreeSet<String> {
        if listed.is_empty() {
            return BTreeSet::new();
        }
        let is_proved = self.is_proved.load(Ordering::Relaxed);
        let seen = blocking(|| with_process(Path::new("/proc"))).await.unwrap_or_default();
        let is_doubtful = |found: &&Found| {
            let is_seen = seen.contains(&found.container_id);
            match found.state {
                FoundState::Created => is_seen || !is_proved,
                FoundState::Running { .. } => !is_seen,
                FoundState::Ended(_) => is_seen,
            }
        };
        listed.iter().filter(is_doubtful).map(|found| found.container_id.clone()).collect()
    }
}

async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.expect("looking does not panic, and is not aborted")
}

/// The containers that have a process; None where processes cannot be listed.
fn with_process(proc: &Path) -> Option<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let looked = container_processes(proc, |_, id| {
        if !seen.contains(id) {
            seen.insert(id.to_owned());
        }
    });
    looked.ok().map(|()| seen)
}

/// Each process that is in a container's control group, with the container's id; more than once, where it is in several.
pub fn container_processes(proc: &Path, mut each: impl FnMut(i32, &str)) -> io::Result<()> {
    for entry in std::fs::read_dir(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is none.
        let Ok(groups) = std::fs::read_to_string(entry.path().join("cgroup")) else { continue };
        for id in ids(&groups) {
            each(pid, id);
        }
    }
    Ok(())
}

/// What looks like a container's id.
fn ids(groups: &str) -> impl Iterator<Item = &str> {
    groups.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == ID_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::meta;

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
        assert_eq!(with_process(proc.path()), Some([id('a'), id('b')].into()));
        assert_eq!(with_process(&proc.path().join("nowhere")), None);
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
        let found = |digit, state| Found { meta: meta(1), container_id: id(digit), state };
        let running = FoundState::Running { started_at_ms: 1, is_paused: false };
        let ended = FoundState::Ended(None);
        let listed = [found('a', running), found('b', FoundState::Created), found('c', ended)];
        assert_eq!(proved.doubtful(&listed).await, [id('a')].into(), "it should have a process");
        assert_eq!(sight.doubtful(&listed).await, [id('a'), id('b')].into(), "what runs might not be seen");
        durable::write(&path, &Place { pid_namespace: "pid:[1]".into(), ..here }).expect("written");
        assert!(Sight::open(path).without_process(vec![id('a')]).await.is_empty(), "that was elsewhere");
    }
}
