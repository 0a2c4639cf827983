//! `testcluster up`: a cluster with echo in it, in the foreground, until a signal or `testcluster down`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Options;
use crate::daemons::DaemonOptions;
use crate::echo;
use crate::error::Error;
use crate::front;
use crate::runtime::{self, RuntimeKind};
use crate::supervisor::Hosted;
use crate::view;

/// What `up` was asked for.
#[derive(Debug, Clone)]
pub struct Up {
    pub dir: PathBuf,
    pub managers: u8,
    /// Managers that do not run until they join.
    pub spares: u8,
    pub workers: u8,
    /// None: docker where it answers, else process.
    pub runtime: Option<RuntimeKind>,
    pub port: u16,
    pub has_echo: bool,
    pub keep: bool,
    /// Each worker has a Docker daemon of its own.
    pub daemons: Option<DaemonOptions>,
    /// Managers' disks can be slowed down.
    pub slow_disks: bool,
    /// Where members send traces.
    pub otlp_endpoint: Option<String>,
}

/// Writes a line where people look; that nobody looks any more is no error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs the cluster until it is taken down.
pub async fn run(up: Up) -> Result<(), Error> {
    let io = |source| Error::Io { what: "cannot listen for signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    // The end of the terminal.
    let mut hangup = signal(SignalKind::hangup()).map_err(io)?;
    let (kind, why) = runtime::choose(up.runtime).await?;
    say(&format!("runtime   {why}"));
    let mut options = Options::new(up.dir.clone(), kind)?;
    (options.managers, options.spares) = (up.managers, up.spares);
    (options.workers, options.daemons) = (up.workers, up.daemons);
    options.slow_disks = up.slow_disks;
    options.otlp_endpoint = up.otlp_endpoint.clone();
    options.front = up.has_echo.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, up.port)));
    let hosted = Hosted::start(options.clone()).await?;
    let down = hosted.down.clone();
    let outcome = tokio::select! {
        result = serve(&hosted, &options) => result,
        () = down.cancelled() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    };
    say("taking the cluster down");
    let ended = hosted.end(up.keep).await;
    outcome.and(ended)
}

/// Returns only with an error.
async fn serve(hosted: &Hosted, options: &Options) -> Result<(), Error> {
    let layout = hosted.cluster.layout();
    say(&format!("cluster   {} managers and {} workers in {}", layout.managers, layout.workers, layout.dir.display()));
    match echo::provide(layout, &options.binaries).await {
        // Without echo on it, a cluster may still be wanted to run the image; then it is no reason not to start.
        Err(error) if layout.front.is_none() => say(&format!("echo      there is no image of it: {error}")),
        result => result?,
    }
    let client = hosted.formed().await?;
    hosted.workers_ready(&client).await?;
    if let Some(at) = layout.front {
        // One less than workers: a lost one's replica finds a place where its port is free.
        let replicas = u32::from(layout.workers).saturating_sub(1).max(1);
        let program = options.binaries.join("echo");
        client.create_service(echo::published(echo::SERVICE, layout.runtime, replicas, &program)).await?;
        front::open(at, client.clone(), hosted.tasks()).await?;
        // The first line to copy should answer at once.
        hosted.service_runs(&client, echo::SERVICE).await?;
    }
    hosted.cluster.set_ready();
    view::show(&hosted.cluster, &client, &options.binaries).await
}
