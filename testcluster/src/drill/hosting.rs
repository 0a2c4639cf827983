//! A cluster of a drill's own, and the signals that end it early.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{DrillOptions, Output};
use crate::client::request_id;
use crate::cluster::Options;
use crate::echo;
use crate::error::Error;
use crate::runtime;
use crate::supervisor::Hosted;
use crate::taskset::TaskSet;
use crate::up::say;

/// Starts the cluster that the drill needs, and waits until a manager leads.
pub(super) async fn host(options: &DrillOptions) -> Result<Hosted, Error> {
    let (kind, why) = runtime::choose(options.runtime).await?;
    if options.output == Output::Text {
        say(&format!("runtime   {why}"));
    }
    let dir = PathBuf::from(format!("/tmp/goat-drill-{}-{}", std::process::id(), &request_id()[..4]));
    let scene = options.kind.scene();
    let options = Options {
        managers: scene.managers,
        spares: scene.spares,
        workers: scene.workers,
        manager_disk_mib: scene.manager_disk_mib,
        daemons: scene.daemons,
        slow_disks: scene.slow_disks,
        is_backed_up: scene.is_backed_up,
        max_tasks: scene.max_tasks,
        ..Options::new(dir, kind)?
    };
    let hosted = Hosted::start(options.clone()).await?;
    let begun = match echo::provide(hosted.cluster.layout(), &options.binaries).await {
        Ok(()) => hosted.formed().await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(_) => Ok(hosted),
        Err(error) => {
            hosted.end(true).await?;
            Err(error)
        }
    }
}

/// Cancels the token on SIGINT and SIGTERM.
pub(super) fn listen(interrupted: &CancellationToken) -> Result<TaskSet, Error> {
    let io = |source| Error::Io { what: "cannot listen for signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let (tasks, interrupted) = (TaskSet::new("signals"), interrupted.clone());
    tasks.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        interrupted.cancel();
    });
    Ok(tasks)
}
