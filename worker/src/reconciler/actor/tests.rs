//! The life of a task with a health check, on a runtime made up for it and by a paused clock.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;

use goat_core::model::{Driver, HealthCheck, HealthProbe, ImageInfo, ServiceSpec};
use parking_lot::Mutex;

use super::*;
use crate::reconciler::plan::StopReason;
use crate::runtime::{Access, Event, Found, LogOptions, LogStream, Ran, Started};
use crate::task::TaskMeta;
use crate::task::tests::meta;

const STARTED_MS: u64 = 7;

/// Its tasks can always be started; how their probes end is written down beforehand.
#[derive(Debug, Default)]
struct Fake {
    /// `+` passes, `-` fails, `?` says nothing; when they run out, probes hang.
    probes: Mutex<VecDeque<char>>,
    /// A probe hangs.
    hangs: watch::Sender<bool>,
    /// The graces of the stops that were asked for.
    stops: watch::Sender<Vec<u64>>,
    /// A stop with more grace does not come to an end.
    stops_within_ms: u64,
}

#[async_trait::async_trait]
impl Access for Fake {
    async fn address_of(&self, _: &TaskMeta) -> Result<IpAddr, Error> {
        unreachable!("only commands are probed")
    }

    async fn exec(&self, _: &TaskMeta, _: &[String], _: Duration) -> Result<Ran, Error> {
        let ran = |code| Ok(Ran { code: Some(code), output: "it says so".into() });
        let next = self.probes.lock().pop_front();
        match next {
            Some('+') => ran(0),
            Some('-') => ran(1),
            Some(_) => Err(Error::Unreachable { problem: "away".into() }),
            None => {
                self.hangs.send_replace(true);
                std::future::pending().await
            }
        }
    }
}

#[async_trait::async_trait]
impl Runtime for Fake {
    fn driver(&self) -> Driver {
        Driver::Process
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn prepare(&self, _: &ServiceSpec) -> Result<(), Error> {
        Ok(())
    }

    async fn create(&self, _: &Order) -> Result<Created, Error> {
        Ok(Created::Fresh { handle: "c".into() })
    }

    async fn start(&self, _: &Order, handle: &str) -> Result<Started, Error> {
        Ok(Started { container_id: handle.into(), started_at_ms: STARTED_MS })
    }

    async fn stop(&self, _: &TaskMeta, grace: Duration) -> Result<Option<Exit>, Error> {
        let grace_ms = grace.as_millis() as u64;
        self.stops.send_modify(|stops| stops.push(grace_ms));
        if grace_ms > self.stops_within_ms {
            std::future::pending::<()>().await;
        }
        Ok(Some(Exit { code: Some(143), ..Exit::default() }))
    }

    async fn remove(&self, _: &TaskMeta) -> Result<(), Error> {
        Ok(())
    }

    async fn inspect(&self, _: &TaskMeta) -> Result<Option<Found>, Error> {
        Ok(None)
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        Ok(Vec::new())
    }

    async fn logs(&self, _: &TaskMeta, _: LogOptions) -> Result<LogStream, Error> {
        Ok(Box::pin(futures::stream::empty()))
    }

    async fn watch(&self, _: mpsc::Sender<(Driver, Event)>) {}

    async fn images(&self) -> Result<Vec<ImageInfo>, Error> {
        Ok(Vec::new())
    }

    async fn disk_root(&self) -> Result<PathBuf, Error> {
        Ok(PathBuf::new())
    }
}

/// Everything around one actor.
struct Stage {
    runtime: Arc<Fake>,
    journal: Journal,
    goal: watch::Sender<Goal>,
    exit: watch::Sender<Option<Exit>>,
    updates: mpsc::Receiver<Record>,
    _dir: tempfile::TempDir,
}

/// Three failures in a row are too many; the first that counts comes a second after the start.
fn checked() -> TaskMeta {
    let probe = HealthProbe::Command { argv: vec!["check".into()] };
    let health = HealthCheck { probe, interval_ms: 1_000, timeout_ms: 500, start_period_ms: 0, retries: 3 };
    TaskMeta { health: Some(health), ..meta(1) }
}

/// `adopted`: an earlier agent's, which this one found in that state; else it is begun.
fn stage(adopted: Option<TaskState>, probes: &str, stops_within_ms: u64) -> (Stage, Actor) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::new(dir.path());
    journal.load().expect("it is made");
    let runtime = Arc::new(Fake { probes: Mutex::new(probes.chars().collect()), stops_within_ms, ..Fake::default() });
    let (goal, exit) = (watch::Sender::new(Goal::Run), watch::Sender::new(None));
    let (tell_updates, updates) = mpsc::channel(64);
    let mut record = Record::new(checked(), 1);
    if let Some(state) = adopted {
        record.started("c".into(), clock::now_ms());
        record.state = state;
    }
    let order = Order {
        meta: checked(),
        spec: Arc::new(ServiceSpec::default()),
        cluster: None,
        node: "w1".into(),
        address: [127, 0, 0, 1].into(),
        traceparent: None,
    };
    let actor = Actor {
        record,
        order: adopted.is_none().then_some(order),
        runtime: runtime.clone(),
        starts: Arc::new(Semaphore::new(1)),
        journal: journal.clone(),
        lease: Arc::new(Lease::open(dir.path()).expect("opened")),
        fence: FenceList::open(dir.path()).expect("opened"),
        meters: Arc::default(),
        goal: goal.subscribe(),
        exit: exit.subscribe(),
        updates: tell_updates,
        may_run: false,
        may_run_out_of_memory: false,
    };
    (Stage { runtime, journal, goal, exit, updates, _dir: dir }, actor)
}

impl Stage {
    /// Everything that was told; the last of it is in the journal.
    async fn told(mut self) -> Vec<Record> {
        let mut told = Vec::new();
        while let Some(record) = self.updates.recv().await {
            told.push(record);
        }
        assert_eq!(self.journal.load().expect("it can be read").last(), told.last());
        told
    }

    async fn until_a_probe_hangs(&self) {
        self.runtime.hangs.subscribe().wait_for(|hangs| *hangs).await.expect("the runtime stays");
    }
}

fn states(told: &[Record]) -> Vec<&str> {
    told.iter().map(|record| record.state.as_str()).collect()
}

fn reason(told: &[Record]) -> &str {
    told.last().and_then(|record| record.reason.as_deref()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_checked_task_is_starting_until_a_probe_passes_and_ran_from_its_start_on() {
    let (stage, actor) = stage(None, "--+", 10_000);
    let exit = async {
        stage.until_a_probe_hangs().await;
        stage.exit.send_replace(Some(Exit { code: Some(0), at_ms: 99, ..Exit::default() }));
    };
    tokio::join!(actor.run(), exit);
    let told = stage.told().await;
    assert_eq!(states(&told), ["starting", "starting", "running", "complete"]);
    assert_eq!(told[1].container_id.as_deref(), Some("c"), "where it runs is told before it is ready");
    assert_eq!((told[2].at_ms, told[3].at_ms), (STARTED_MS, 99));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_passes_is_stopped_with_its_grace_and_has_failed() {
    // Its start is long past: each failure counts.
    let (stage, actor) = stage(None, "-?--", 10_000);
    let runtime = stage.runtime.clone();
    actor.run().await;
    let told = stage.told().await;
    assert_eq!(states(&told), ["starting", "starting", "failed"]);
    assert_eq!((reason(&told), told[2].exit_code), ("never-ready", Some(143)));
    let problem = "its health check failed 3 times in a row, at last: the command ended with exit code 1: it says so";
    assert_eq!(told[2].error.as_deref(), Some(problem));
    assert_eq!(*runtime.stops.borrow(), [10_000]);
}

#[tokio::test(start_paused = true)]
async fn a_ready_task_that_fails_too_often_in_a_row_is_unhealthy() {
    let (stage, actor) = stage(None, "+--+---", 10_000);
    actor.run().await;
    let told = stage.told().await;
    assert_eq!(states(&told), ["starting", "starting", "running", "failed"]);
    assert_eq!(reason(&told), "unhealthy");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_task_goes_on_from_where_it_was() {
    for (state, probes, states_told, word) in [
        (TaskState::Starting, "-+---", ["running", "failed"].as_slice(), "unhealthy"),
        (TaskState::Running, "+---", ["failed"].as_slice(), "unhealthy"),
        (TaskState::Running, "---", ["failed"].as_slice(), "unhealthy"),
    ] {
        let (stage, actor) = stage(Some(state), probes, 10_000);
        actor.run().await;
        let told = stage.told().await;
        assert_eq!((states(&told).as_slice(), reason(&told)), (states_told, word), "{state:?} {probes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wanted_stop_and_an_exit_overtake_a_probe_that_hangs() {
    let (waiting, actor) = stage(None, "", 10_000);
    let stop = async {
        waiting.until_a_probe_hangs().await;
        waiting.goal.send_replace(Goal::Stop { reason: StopReason::Wanted, grace_ms: 10_000 });
    };
    tokio::join!(actor.run(), stop);
    let told = waiting.told().await;
    assert_eq!((states(&told), reason(&told)), (vec!["starting", "starting", "stopped"], "stop-requested"));

    let (waiting, actor) = stage(None, "", 10_000);
    let end = async {
        waiting.until_a_probe_hangs().await;
        waiting.exit.send_replace(Some(Exit { code: Some(3), ..Exit::default() }));
    };
    tokio::join!(actor.run(), end);
    let told = waiting.told().await;
    assert_eq!((states(&told), reason(&told)), (vec!["starting", "starting", "failed"], "exit"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_overtakes_the_stop_of_an_unhealthy_task() {
    let (stage, actor) = stage(Some(TaskState::Running), "---", 500);
    let lease = async {
        let mut stops = stage.runtime.stops.subscribe();
        stops.wait_for(|stops| !stops.is_empty()).await.expect("the runtime stays");
        // As much grace changes nothing, less does.
        stage.goal.send_replace(Goal::Stop { reason: StopReason::Wanted, grace_ms: 10_000 });
        tokio::task::yield_now().await;
        stage.goal.send_replace(Goal::Stop { reason: StopReason::LeaseExpired, grace_ms: 500 });
    };
    tokio::join!(actor.run(), lease);
    assert_eq!(*stage.runtime.stops.borrow(), [10_000, 500]);
    let told = stage.told().await;
    assert_eq!((states(&told), reason(&told)), (vec!["stopped"], "lease-expired"));
}
