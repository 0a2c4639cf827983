//! The yardsticks: the disk, `docker run`, and Docker's API without anybody in between.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters as query;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::client::request_id;
use crate::echo;
use crate::error::Error;
use crate::programs;
use crate::runtime::docker;

const SYNCS: u32 = 1_000;
const RUN: Duration = Duration::from_secs(60);
/// On what this makes, so that it is never taken for a task.
const LABEL: &str = "io.goat.testcluster.bench";

/// 512 bytes written and synced, one after the other, on the file system of `dir`.
pub(super) fn syncs_per_second(dir: &Path) -> Result<f64, Error> {
    let path = dir.join("sync-yardstick");
    let result = (|| {
        let mut file = File::create(&path)?;
        let started = Instant::now();
        for _ in 0..SYNCS {
            file.write_all(&[7; 512])?;
            file.sync_data()?;
        }
        Ok(f64::from(SYNCS) / started.elapsed().as_secs_f64())
    })();
    let _ = std::fs::remove_file(&path);
    result.map_err(Error::io("write", &path))
}

/// Seconds that `docker run -d` of echo takes. The container is removed.
pub(super) async fn docker_run() -> Result<f64, Error> {
    let name = format!("goat-bench-{}", request_id());
    let started = Instant::now();
    let run = tokio::process::Command::from(programs::command("docker"))
        .args(["run", "-d", "--name", &name, "--label", LABEL, echo::image()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(RUN, run).await;
    let took = started.elapsed().as_secs_f64();
    let remove = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let removed = docker()?.remove_container(&name, Some(remove)).await;
    let output = output
        .map_err(|_| Error::failed(format!("docker run took longer than {} s", RUN.as_secs())))?
        .map_err(|error| Error::failed(format!("the program docker, the yardstick, cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Error::failed(format!("docker run failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    removed.map_err(Error::docker("remove a container"))?;
    Ok(took)
}

/// Creates and starts `count` containers of echo over the API, `concurrency` at a time. They are removed.
pub(super) async fn containers_per_second(count: usize, concurrency: usize) -> Result<f64, Error> {
    let client = docker()?;
    let run = request_id();
    let started = Instant::now();
    let made: Result<Vec<()>, Error> = stream::iter(0..count)
        .map(|number| one(&client, format!("goat-bench-{run}-{number}")))
        .buffer_unordered(concurrency)
        .try_collect()
        .await;
    let took = started.elapsed().as_secs_f64();
    let remove = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let names = (0..count).map(|number| format!("goat-bench-{run}-{number}"));
    stream::iter(names)
        .for_each_concurrent(concurrency, |name| {
            let (client, remove) = (&client, remove.clone());
            async move {
                // Whatever could not be made is not there.
                let _ = client.remove_container(&name, Some(remove)).await;
            }
        })
        .await;
    made?;
    Ok(count as f64 / took)
}

async fn one(client: &bollard::Docker, name: String) -> Result<(), Error> {
    let body = ContainerCreateBody {
        image: Some(echo::image().to_owned()),
        labels: Some(HashMap::from([(LABEL.to_owned(), String::new())])),
        ..ContainerCreateBody::default()
    };
    let options = query::CreateContainerOptionsBuilder::default().name(&name).build();
    let created = client.create_container(Some(options), body).await.map_err(Error::docker("create a container"))?;
    client
        .start_container(&created.id, None::<query::StartContainerOptions>)
        .await
        .map_err(Error::docker("start a container"))
}

/// Seconds from a kill over the API to another container running, which is begun when Docker tells of the first one's end:
/// what is to be had where nobody has to be asked.
pub(super) async fn restarted_by_hand(settle: Duration) -> Result<f64, Error> {
    let client = docker()?;
    let names = [format!("goat-bench-{}", request_id()), format!("goat-bench-{}", request_id())];
    let result = async {
        one(&client, names[0].clone()).await?;
        tokio::time::sleep(settle).await;
        let filters = HashMap::from([("event", vec!["die".to_owned()]), ("container", vec![names[0].clone()])]);
        let options = query::EventsOptionsBuilder::default().filters(&filters).build();
        let mut events = Box::pin(client.events(Some(options)));
        let kill = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let started = Instant::now();
        let killed = client.kill_container(&names[0], Some(kill));
        let again = async {
            match tokio::time::timeout(RUN, events.next()).await {
                Ok(Some(Ok(_))) => one(&client, names[1].clone()).await,
                _ => Err(Error::failed("Docker did not tell of a container's end")),
            }
        };
        // The call answers late; GOAT does not wait for that either.
        let (killed, again) = tokio::join!(killed, async { again.await.map(|()| started.elapsed().as_secs_f64()) });
        killed.map_err(Error::docker("kill a container"))?;
        again
    };
    let result = result.await;
    let remove = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    for name in &names {
        // Whatever could not be made is not there.
        let _ = client.remove_container(name, Some(remove.clone())).await;
    }
    result
}
