//! The cluster of a drill, from the first repeat to the last: set up, whole before each repeat, checked after it, and
//! taken away.

use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::checks::Checks;
use super::hosting::{host, listen};
use super::judge::{Rules, doubled, judge, notable};
use super::report::Outcome;
use super::role::Role;
use super::{DrillOptions, Output};
use crate::client::{Client, request_id};
use crate::cluster::Options;
use crate::control::Remote;
use crate::echo;
use crate::error::Error;
use crate::pulse::Pulse;
use crate::recorder::Recorder;
use crate::supervisor::Hosted;
use crate::taskset::TaskSet;
use crate::timeline::Timeline;
use crate::up::say;
use crate::witness::{Witness, now_ms};

/// Above half of what members wait for each other.
const STOOD_STILL_MS: u64 = 250;
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
    /// These three run during a repeat.
    pub(super) recorder: Option<Recorder>,
    witness: Option<Witness>,
    pulse: Option<Pulse>,
    /// When the repeat began.
    pub(super) began_ms: u64,
    pub rules: Rules,
    /// What the drill itself saw that must not be.
    pub wrong: Vec<String>,
    /// The term that there should be at the end of the repeat; every other is an election without cause.
    pub term: u64,
    pub services: Vec<(Role, String)>,
    /// Of this repeat.
    pub rng: StdRng,
    pub nth: u32,
    pub(super) options: DrillOptions,
    interrupted: CancellationToken,
    _signals: TaskSet,
}

impl Stage {
    /// Starts a cluster, or finds the one that was named, and creates the drill's services in it.
    pub async fn set(options: &DrillOptions) -> Result<Self, Error> {
        let interrupted = CancellationToken::new();
        let signals = listen(&interrupted)?;
        let (hosted, remote) = match &options.dir {
            Some(dir) => (None, Remote::open(dir).await?),
            None => {
                let hosted = host(options).await?;
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
        let stage = Self::on(hosted, remote, options, (interrupted, signals))?;
        match stage.create_services().await {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.strike(false).await?;
                Err(error)
            }
        }
    }

    fn on(
        hosted: Option<Hosted>,
        remote: Remote,
        options: &DrillOptions,
        (interrupted, signals): (CancellationToken, TaskSet),
    ) -> Result<Self, Error> {
        let client = remote.client()?;
        let tag = &request_id()[..4];
        let suffixes = ["keep", "stop", "one"];
        let names = Role::ALL.into_iter().zip(suffixes).map(|(role, suffix)| (role, format!("drill-{tag}-{suffix}")));
        Ok(Self {
            hosted,
            checks: Checks { remote, client },
            timeline: Timeline::begin(options.output == Output::Text),
            recorder: None,
            witness: None,
            pulse: None,
            began_ms: 0,
            rules: Rules::default(),
            wrong: Vec::new(),
            term: 0,
            services: names.collect(),
            rng: StdRng::seed_from_u64(options.seed),
            nth: 0,
            options: options.clone(),
            interrupted,
            _signals: signals,
        })
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

    /// The running witness.
    pub fn witness(&self) -> Result<&Witness, Error> {
        self.witness.as_ref().ok_or_else(|| Error::failed("the witness does not watch"))
    }

    /// Cancelled by SIGINT and SIGTERM.
    pub fn interrupted(&self) -> CancellationToken {
        self.interrupted.clone()
    }

    /// How often the drill is played.
    pub const fn repeats(&self) -> u32 {
        self.options.repeat
    }

    /// How long the failure lasts.
    pub fn length(&self, default_s: u64) -> Duration {
        Duration::from_secs(self.options.seconds.unwrap_or(default_s))
    }

    async fn create_services(&self) -> Result<(), Error> {
        // With all workers there, tasks are spread over them from the start.
        self.whole().await?;
        let layout = self.remote().layout();
        let program = Options::new(layout.dir.clone(), layout.runtime)?.binaries.join("echo");
        let scene = self.options.kind.scene();
        for (role, name) in &self.services {
            let replicas = match role {
                Role::Keep => scene.keep_replicas,
                Role::Stop => scene.stop_replicas,
                Role::Isolated => 1,
            };
            let mut spec = echo::spec(name, layout.runtime, replicas, &program);
            spec.on_disconnect = role.word().into();
            self.client().create_service(spec).await?;
        }
        Ok(())
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
        self.rules = Rules::default();
        self.wrong.clear();
        let seed = self.seed();
        self.rng = StdRng::seed_from_u64(seed);
        self.pulse = Some(Pulse::start());
        self.witness = Some(Witness::start(self.remote().layout()).await?);
        // One waits for its answer before it writes again: so many that slow answers do not make it less than was asked for.
        let writers =
            usize::from(self.remote().layout().managers).max((self.options.load_per_s / 20.0).min(64.0) as usize);
        let recorder = Recorder::start(self.client(), writers, self.options.load_per_s);
        let since = Instant::now();
        let written = recorder.first_after(since, FIRST_WRITE).await;
        self.recorder = Some(recorder);
        written?;
        if self.options.output == Output::Text {
            say(&format!("\n{} {nth}/{} (seed {seed})", self.options.kind.name(), self.options.repeat));
        }
        self.restart_clock();
        self.began_ms = self.timeline.zero_unix_ms();
        Ok(())
    }

    /// Of this repeat: with it as `--seed`, its random choices come first.
    pub fn seed(&self) -> u64 {
        self.options.seed.wrapping_add(u64::from(self.nth.saturating_sub(1)))
    }

    /// The next moment is `+0.000`.
    pub fn restart_clock(&mut self) -> Instant {
        self.timeline = Timeline::begin(self.options.output == Output::Text);
        self.timeline.zero()
    }

    /// Judges what has happened so far by the rules so far.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        let lives = self.witness()?.lives();
        let found = judge(&lives, &self.rules, &self.services, self.began_ms, now_ms());
        self.wrong.extend(found);
        Ok(())
    }

    /// After a repeat: everything that must hold.
    pub async fn end(&mut self, measured: Result<Measured, Error>) -> Result<Outcome, Error> {
        let measured = measured?;
        self.whole().await?;
        self.timeline.tell("the cluster is whole again");
        let recorder = self.recorder.take().ok_or_else(|| Error::failed("the recorder does not run"))?;
        let witness = self.witness.take().ok_or_else(|| Error::failed("the witness does not watch"))?;
        let record = recorder.finish().await?;
        let lives = witness.finish().await?;
        let mut violations = std::mem::take(&mut self.wrong);
        violations.extend(record.violations.iter().cloned());
        if !self.rules.may_fail_requests {
            violations.extend(record.failures.iter().map(|failure| format!("a request failed: {failure}")));
        }
        violations.extend(judge(&lives, &self.rules, &self.services, self.began_ms, now_ms()));
        violations.extend(self.checks.unfilled().await?);
        let term = self.client().status().await?.term;
        if term != self.term {
            violations.push(format!("an election without cause: term {} became {term}", self.term));
            self.term = term;
        }
        let mut told = std::collections::HashSet::new();
        violations.retain(|violation| told.insert(violation.clone()));
        let stood_still_ms = self.stop_pulse().await;
        for violation in &violations {
            self.timeline.tell(format!("WRONG {violation}"));
        }
        Ok(Outcome {
            nth: self.nth,
            seed: self.seed(),
            measured,
            violations,
            record,
            stood_still_ms,
            doubled: doubled(&lives, &self.services, now_ms()),
            lives: notable(lives, &self.services, self.began_ms),
            timeline: self.timeline.moments(),
        })
    }

    /// How long this program stood still at the most, told where that is long.
    async fn stop_pulse(&mut self) -> u64 {
        let Some(pulse) = self.pulse.take() else { return 0 };
        pulse.stop().await;
        if pulse.worst_ms() >= STOOD_STILL_MS {
            self.timeline.tell(format!("testcluster itself stood still for {} ms", pulse.worst_ms()));
        }
        pulse.worst_ms()
    }

    /// Takes away what the drill set up. `keeps`: leaves the directory of its cluster, which is then returned.
    pub async fn strike(mut self, keeps: bool) -> Result<Option<PathBuf>, Error> {
        self.stop_pulse().await;
        if let Some(recorder) = self.recorder.take() {
            recorder.abandon().await;
        }
        if let Some(witness) = self.witness.take() {
            witness.stop().await;
        }
        let Some(hosted) = self.hosted else {
            for (_, name) in &self.services {
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
