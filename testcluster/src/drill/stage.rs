//! The cluster of a drill, from the first repeat to the last: set up, whole before each repeat, checked after it, and
//! taken away.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::checks::{Checks, Running};
use super::report::Outcome;
use super::{DrillOptions, Output};
use crate::client::{Client, request_id};
use crate::cluster::Options;
use crate::control::Remote;
use crate::echo;
use crate::error::Error;
use crate::recorder::Recorder;
use crate::runtime::{self, RuntimeKind};
use crate::supervisor::Hosted;
use crate::taskset::TaskSet;
use crate::timeline::Timeline;
use crate::up::say;

const WHOLE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const FIRST_WRITE: Duration = Duration::from_secs(15);

/// What one repeat took, by name, in milliseconds.
pub type Measured = Vec<(&'static str, f64)>;

/// A cluster that a drill plays on.
#[derive(Debug)]
pub struct Stage {
    /// None: somebody else's cluster.
    hosted: Option<Hosted>,
    pub checks: Checks,
    pub timeline: Timeline,
    /// Runs during a repeat.
    pub recorder: Option<Recorder>,
    pub before: Running,
    /// Workers whose tasks had to move in this repeat.
    pub lost_nodes: Vec<String>,
    /// The term that there should be at the end of the repeat; every other is an election without cause.
    pub term: u64,
    /// The services whose tasks the drill looks at: the one keeps running without managers, the other is leased.
    pub services: [String; 2],
    load_per_s: f64,
    is_text: bool,
    name: String,
    repeats: u32,
    nth: u32,
    interrupted: CancellationToken,
    _signals: TaskSet,
}

impl Stage {
    /// Starts a cluster, or finds the one that was named, and creates the drill's services in it.
    pub async fn set(options: &DrillOptions) -> Result<Self, Error> {
        let interrupted = CancellationToken::new();
        let signals = listen(&interrupted)?;
        let is_text = options.output == Output::Text;
        let (hosted, remote) = match &options.dir {
            Some(dir) => (None, Remote::open(dir).await?),
            None => {
                let hosted = host(options.runtime, is_text).await?;
                let remote = Remote::open(&hosted.dir()).await;
                match remote {
                    Ok(remote) => (Some(hosted), remote),
                    Err(error) => {
                        hosted.end(false).await?;
                        return Err(error);
                    }
                }
            }
        };
        let client = remote.client()?;
        let tag = &request_id()[..4];
        let stage = Self {
            hosted,
            checks: Checks { remote, client },
            timeline: Timeline::begin(is_text),
            recorder: None,
            before: Running::new(),
            lost_nodes: Vec::new(),
            term: 0,
            services: [format!("drill-{tag}-keep"), format!("drill-{tag}-stop")],
            load_per_s: options.load_per_s,
            is_text,
            name: options.kind.name(),
            repeats: options.repeat,
            nth: 0,
            interrupted,
            _signals: signals,
        };
        match stage.create_services().await {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.strike(false).await?;
                Err(error)
            }
        }
    }

    pub const fn client(&self) -> &Client {
        &self.checks.client
    }

    pub const fn remote(&self) -> &Remote {
        &self.checks.remote
    }

    /// The running recorder.
    pub fn recorder(&self) -> Result<&Recorder, Error> {
        self.recorder.as_ref().ok_or_else(|| Error::failed("the recorder does not run"))
    }

    /// Cancelled by SIGINT and SIGTERM.
    pub fn interrupted(&self) -> CancellationToken {
        self.interrupted.clone()
    }

    async fn create_services(&self) -> Result<(), Error> {
        // With all workers there, tasks are spread over them from the start.
        self.whole().await?;
        let layout = self.remote().layout();
        let program = Options::new(layout.dir.clone(), layout.runtime)?.binaries.join("echo");
        for (name, on_disconnect) in self.services.iter().zip(["keep", "stop"]) {
            let mut spec = echo::spec(name, layout.runtime, u32::from(layout.workers), &program);
            spec.on_disconnect = on_disconnect.into();
            self.client().create_service(spec).await?;
        }
        Ok(())
    }

    /// Waits until the cluster is whole.
    pub async fn whole(&self) -> Result<(), Error> {
        let deadline = Instant::now() + WHOLE;
        loop {
            let why = match self.checks.unwhole().await {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => why,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(Error::failed(format!("the cluster is not whole after {} s: {why}", WHOLE.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Before a repeat: the cluster is whole, writes go on, and what runs is remembered.
    pub async fn begin(&mut self, nth: u32) -> Result<(), Error> {
        self.nth = nth;
        self.whole().await?;
        let term = self.client().status().await?.term;
        if nth > 1 && term != self.term {
            return Err(Error::failed(format!(
                "an election without cause between repeats: term {} became {term}",
                self.term
            )));
        }
        self.term = term;
        self.before = self.checks.running().await?;
        self.lost_nodes.clear();
        let writers = usize::from(self.remote().layout().managers);
        let recorder = Recorder::start(self.client(), writers, self.load_per_s);
        let since = Instant::now();
        recorder.first_after(since, FIRST_WRITE).await?;
        self.recorder = Some(recorder);
        if self.is_text {
            say(&format!("\n{} {nth}/{}", self.name, self.repeats));
        }
        self.restart_clock();
        Ok(())
    }

    /// The next moment is `+0.000`.
    pub fn restart_clock(&mut self) -> Instant {
        self.timeline = Timeline::begin(self.is_text);
        self.timeline.zero()
    }

    /// After a repeat: everything that must hold.
    pub async fn end(&mut self, measured: Result<Measured, Error>) -> Result<Outcome, Error> {
        let recorder = self.recorder.take().ok_or_else(|| Error::failed("the recorder does not run"))?;
        let measured = measured?;
        self.whole().await?;
        self.timeline.tell("the cluster is whole again");
        let record = recorder.finish().await?;
        let mut violations = record.violations.clone();
        violations.extend(record.failures.iter().map(|failure| format!("a request failed: {failure}")));
        violations.extend(self.checks.restarted(&self.before, &self.lost_nodes).await?);
        violations.extend(self.checks.unfilled().await?);
        let term = self.client().status().await?.term;
        if term != self.term {
            violations.push(format!("an election without cause: term {} became {term}", self.term));
            self.term = term;
        }
        for violation in &violations {
            self.timeline.tell(format!("WRONG {violation}"));
        }
        Ok(Outcome { nth: self.nth, measured, violations, record, timeline: self.timeline.moments() })
    }

    /// Takes away what the drill set up. `keeps`: leaves the directory of its cluster, which is then returned.
    pub async fn strike(self, keeps: bool) -> Result<Option<PathBuf>, Error> {
        let Some(hosted) = self.hosted else {
            for name in &self.services {
                // One that was never created is as good as removed.
                let _ = self.checks.client.remove_service(name).await;
            }
            return Ok(None);
        };
        let dir = hosted.dir();
        hosted.end(keeps).await?;
        Ok(keeps.then_some(dir))
    }
}

async fn host(asked: Option<RuntimeKind>, is_text: bool) -> Result<Hosted, Error> {
    let (kind, why) = runtime::choose(asked).await?;
    if is_text {
        say(&format!("runtime   {why}"));
    }
    let dir = PathBuf::from(format!("/tmp/goat-drill-{}-{}", std::process::id(), &request_id()[..4]));
    let options = Options::new(dir, kind)?;
    if kind == RuntimeKind::Docker {
        echo::ensure_image(&options.binaries).await?;
    }
    let hosted = Hosted::start(options).await?;
    match hosted.formed().await {
        Ok(_) => Ok(hosted),
        Err(error) => {
            hosted.end(true).await?;
            Err(error)
        }
    }
}

fn listen(interrupted: &CancellationToken) -> Result<TaskSet, Error> {
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
