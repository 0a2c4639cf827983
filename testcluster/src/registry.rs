//! Registries of images for a cluster with Docker daemons of its own: one inside each daemon's network namespace, all at
//! the same address there and on the same storage. So an image has one name everywhere, and each worker's way to it can
//! be cut by itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters as query;
use futures::StreamExt;
use tokio::process::Child;
use tokio::time::Instant;

use crate::daemons;
use crate::echo;
use crate::error::Error;
use crate::layout::Layout;

/// Docker takes plain HTTP from loopback.
const ADDRESS: &str = "127.0.0.1:5000";
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// What the registry's log says from when it answers.
const LISTENS: &str = "listening on";

/// The running ones, by the worker's number.
#[derive(Debug, Default)]
pub struct Registries {
    running: BTreeMap<u8, Child>,
}

impl Registries {
    /// One for each worker.
    pub async fn start(layout: &Layout) -> Result<Self, Error> {
        if !layout.has_daemons {
            return Err(Error::failed(
                "this cluster has no Docker daemons of its own, in which a registry could be; start it with --daemons",
            ));
        }
        let mut registries = Self::default();
        for n in 1..=layout.workers {
            registries.add(layout, n).await?;
        }
        Ok(registries)
    }

    /// Starts one, and waits until it listens.
    pub async fn add(&mut self, layout: &Layout, n: u8) -> Result<(), Error> {
        let config = layout.daemon_dir(n).join("registry.yml");
        let storage = layout.dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{ADDRESS}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text).map_err(Error::io("write", &config))?;
        let path = layout.log_path(&format!("r{n}"));
        let log = File::create(&path).map_err(Error::io("write", &path))?;
        let mut command = daemons::inside(layout, n, "docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = command.process_group(0).kill_on_drop(true).spawn();
        let mut child = started.map_err(Error::io("start", Path::new("docker-registry")))?;
        let deadline = Instant::now() + READY;
        while !std::fs::read_to_string(&path).unwrap_or_default().contains(LISTENS) {
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() >= deadline {
                return Err(Error::failed(format!("docker-registry r{n} does not listen; see {}", path.display())));
            }
            tokio::time::sleep(POLL).await;
        }
        self.running.insert(n, child);
        Ok(())
    }

    /// Kills all of them.
    pub async fn kill(&mut self) -> Result<(), Error> {
        for (_, mut child) in std::mem::take(&mut self.running) {
            child.kill().await.map_err(Error::io("kill", Path::new("docker-registry")))?;
        }
        Ok(())
    }
}

/// An image's reference in the registries.
pub fn image(name_and_tag: &str) -> String {
    format!("{ADDRESS}/{name_and_tag}")
}

/// Makes an image of echo and of `ballast` bytes that do not compress, pushes it, and forgets it at that daemon.
pub async fn publish(client: &Docker, repository: &str, tag: &str, ballast: usize) -> Result<String, Error> {
    let repository = image(repository);
    let reference = format!("{repository}:{tag}");
    let mut noise = vec![0; ballast];
    rand::fill(&mut noise[..]);
    let dockerfile = format!("FROM {}\nCOPY ballast /ballast\n", echo::image());
    let files = [("Dockerfile", 0o644, dockerfile.as_bytes()), ("ballast", 0o644, &noise[..])];
    let context = echo::pack(&files).map_err(Error::io("pack", Path::new("ballast")))?;
    echo::build(client, &reference, context).await?;
    let options = query::PushImageOptionsBuilder::default().tag(tag).build();
    let mut steps = client.push_image(&repository, Some(options), None);
    while let Some(step) = steps.next().await {
        step.map_err(Error::docker("push an image"))?;
    }
    let forgotten = client.remove_image(&reference, None::<query::RemoveImageOptions>, None).await;
    forgotten.map_err(Error::docker("remove an image"))?;
    Ok(reference)
}
