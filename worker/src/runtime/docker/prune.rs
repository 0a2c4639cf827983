//! Images that this worker has pulled for tasks, and the removal of those that nothing has used for a while.
//!
//! Only what it pulled itself is ever removed, and only while the reference still names the image that was pulled: what
//! people pulled, built or tagged is theirs. `images.json` in the data directory remembers it across restarts of the
//! agent; a damaged one costs disk space, not tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters as query;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::super::Error;
use super::calls::{self, within};
use super::error::Fault;
use crate::durable;

/// The file: which image each reference named when it was pulled.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    images: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Pulled {
    id: String,
    /// When something last used it, as far as this agent has seen.
    used: Instant,
}

/// What this worker has pulled.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    images: Mutex<BTreeMap<String, Pulled>>,
    /// One writer at a time: the last one has the last word.
    writing: tokio::sync::Mutex<()>,
}

impl Memory {
    /// Blocks.
    pub(super) fn open(path: PathBuf) -> Self {
        let written = durable::read::<Written>(&path).unwrap_or_else(|error| {
            warn!(%error, "which images were pulled is forgotten, they will not be pruned");
            None
        });
        let used = Instant::now();
        let images = written.unwrap_or_default().images.into_iter().map(|(name, id)| (name, Pulled { id, used }));
        Self { path, images: Mutex::new(images.collect()), writing: tokio::sync::Mutex::default() }
    }

    pub(super) async fn pulled(&self, reference: &str, id: String) {
        self.images.lock().insert(reference.to_owned(), Pulled { id, used: Instant::now() });
        self.write().await;
    }

    async fn write(&self) {
        let turn = self.writing.lock().await;
        let images = self.images.lock().iter().map(|(name, pulled)| (name.clone(), pulled.id.clone())).collect();
        let (path, written) = (self.path.clone(), Written { images });
        let write = tokio::task::spawn_blocking(move || durable::write(&path, &written)).await;
        if let Err(error) = write.expect("file operations do not panic, and are not aborted") {
            warn!(%error, "which images were pulled could not be written down");
        }
        drop(turn);
    }

    /// Removes the images that nothing has used for `unused_for`; which they were.
    pub(super) async fn prune(&self, client: &Docker, unused_for: Duration) -> Result<Vec<String>, Error> {
        let known = self.images.lock().clone();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let used = used_images(client).await?;
        let (mut removed, mut forgotten) = (Vec::new(), Vec::new());
        for (reference, pulled) in known {
            match judge(client, &reference, &pulled, &used, unused_for).await? {
                Fate::Used => self.touch(&reference),
                Fate::Idle => {}
                Fate::NotOurs => forgotten.push(reference),
                Fate::Removed => {
                    info!(image = reference, "an image that nothing uses was removed");
                    removed.push(reference);
                }
            }
        }
        if !removed.is_empty() || !forgotten.is_empty() {
            self.images.lock().retain(|reference, _| !removed.contains(reference) && !forgotten.contains(reference));
            self.write().await;
        }
        Ok(removed)
    }

    fn touch(&self, reference: &str) {
        if let Some(pulled) = self.images.lock().get_mut(reference) {
            pulled.used = Instant::now();
        }
    }
}

enum Fate {
    Used,
    Idle,
    /// It is gone, or the name means something else by now.
    NotOurs,
    Removed,
}

/// The images of all containers, running or not, whoever made them.
async fn used_images(client: &Docker) -> Result<BTreeSet<String>, Error> {
    let options = query::ListContainersOptionsBuilder::default().all(true).build();
    let listed = within(calls::LIST, client.list_containers(Some(options))).await.map_err(Fault::general)?;
    Ok(listed.into_iter().filter_map(|container| container.image_id).collect())
}

async fn judge(
    client: &Docker,
    reference: &str,
    pulled: &Pulled,
    used: &BTreeSet<String>,
    unused_for: Duration,
) -> Result<Fate, Error> {
    match within(calls::INSPECT, client.inspect_image(reference)).await {
        Ok(image) if image.id.as_deref() != Some(&pulled.id) => return Ok(Fate::NotOurs),
        Ok(_) => {}
        Err(fault) if fault.is_absent() => return Ok(Fate::NotOurs),
        Err(fault) => return Err(fault.general()),
    }
    if used.contains(&pulled.id) {
        return Ok(Fate::Used);
    }
    if pulled.used.elapsed() < unused_for {
        return Ok(Fate::Idle);
    }
    // Not forced: a container that was made meanwhile keeps its image.
    match within(calls::REMOVE, client.remove_image(reference, None::<query::RemoveImageOptions>, None)).await {
        Ok(_) => Ok(Fate::Removed),
        Err(fault) if fault.is_absent() => Ok(Fate::NotOurs),
        Err(fault) if fault.status() == Some(409) => Ok(Fate::Used),
        Err(fault) => Err(fault.general()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_pulled_is_remembered_and_damage_costs_no_more_than_the_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("images.json");
        let memory = Memory::open(path.clone());
        memory.pulled("a:1", "sha256:1".into()).await;
        memory.pulled("b:1", "sha256:2".into()).await;
        let names = |memory: Memory| memory.images.lock().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(Memory::open(path.clone())), ["a:1", "b:1"]);
        std::fs::write(&path, "{").expect("written");
        assert!(names(Memory::open(path)).is_empty());
    }
}
