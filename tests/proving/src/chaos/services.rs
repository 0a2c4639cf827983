//! The services of a round, and what people do to two of them meanwhile.
//!
//! | service | on-disconnect | |
//! | --- | --- | --- |
//! | `still` | keep | nobody changes it: an instance that ends or moves has to have a cause |
//! | `stop` | stop | nobody changes it |
//! | `one` | stop-if-isolated | a single instance |
//! | `busy` | stop | scaled and updated over and over |
//! | `passing` | stop | removed and created again, under the same name |
//! | `crash` | keep | fails at its start, until its attempts are used up |

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use goat_proto::v1;
use goat_testcluster::drill::Role;
use goat_testcluster::runtime::RuntimeKind;
use goat_testcluster::{Client, echo};
use tokio::time::Instant;

use super::fault::Fault;
use super::ground::Ground;

pub const STILL: &str = "still";
pub const STOP: &str = "stop";
pub const ONE: &str = "one";
pub const BUSY: &str = "busy";
pub const PASSING: &str = "passing";
pub const CRASH: &str = "crash";

/// What each promises of its slots' instances.
pub const ROLES: &[(&str, Role)] = &[
    (STILL, Role::Keep),
    (STOP, Role::Stop),
    (ONE, Role::Isolated),
    (BUSY, Role::Stop),
    (PASSING, Role::Stop),
    (CRASH, Role::Keep),
];

/// Restarts of the service that fails.
pub const CRASHES: u32 = 4;
pub const CRASH_CODE: i32 = 3;
const CRASH_DELAY_MS: u64 = 3_000;
/// A variable whose value is of no consequence, and new with each update.
const TURN: &str = "TURN";
const BUSY_REPLICAS: u32 = 2;
/// For what is left of a removed service to be gone, so that its name is free.
const FREE_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);

/// What the changed service is known to be; None while that is not known.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    replicas: Option<u32>,
    turn: Option<u64>,
    /// Of the last update that was asked for.
    asked: u64,
}

/// Those who change services.
#[derive(Debug)]
pub struct People {
    program: PathBuf,
    wanted: Mutex<Wanted>,
}

impl People {
    /// `program`: the echo, for its spec.
    pub fn new(program: PathBuf) -> Self {
        let wanted = Wanted { replicas: Some(BUSY_REPLICAS), turn: Some(0), asked: 0 };
        Self { program, wanted: Mutex::new(wanted) }
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("no panic holds it")
    }

    fn spec(&self, name: &str, replicas: u32) -> v1::ServiceSpec {
        let role = ROLES.iter().find(|(of, _)| *of == name).map_or(Role::Keep, |(_, role)| *role);
        let mut spec = echo::spec(name, RuntimeKind::Docker, replicas, &self.program);
        spec.on_disconnect = role.word().into();
        spec
    }

    fn busy(&self, replicas: u32, turn: u64) -> v1::ServiceSpec {
        let mut spec = self.spec(BUSY, replicas);
        spec.env.insert(TURN.into(), turn.to_string());
        spec
    }

    /// All that there are when a storm begins, but the one that fails.
    pub async fn create(&self, client: &Client) -> anyhow::Result<()> {
        for (name, replicas) in [(STILL, 3), (STOP, 3), (ONE, 1), (PASSING, 1)] {
            client.create_service(self.spec(name, replicas)).await?;
        }
        client.create_service(self.busy(BUSY_REPLICAS, 0)).await?;
        Ok(())
    }

    /// The one that fails.
    pub async fn create_crashing(&self, client: &Client) -> anyhow::Result<()> {
        let mut spec = self.spec(CRASH, 1);
        spec.env.insert("ECHO_CRASH_AT_START".into(), CRASH_CODE.to_string());
        spec.restart = Some(v1::RestartPolicy {
            condition: "on-failure".into(),
            max_attempts: Some(CRASHES),
            delay_ms: Some(CRASH_DELAY_MS),
            max_delay_ms: Some(CRASH_DELAY_MS),
            stable_after_ms: None,
        });
        client.create_service(spec).await?;
        Ok(())
    }

    /// A change of the schedule.
    pub async fn change(&self, ground: &Ground<'_>, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Scale(replicas) => {
                self.wanted().replicas = None;
                ground.client.scale_service(BUSY, *replicas).await?;
                self.wanted().replicas = Some(*replicas);
            }
            Fault::Update => {
                let (replicas, turn) = {
                    let mut wanted = self.wanted();
                    let replicas = wanted.replicas.unwrap_or(BUSY_REPLICAS);
                    wanted.asked += 1;
                    (wanted.replicas, wanted.turn) = (None, None);
                    (replicas, wanted.asked)
                };
                ground.client.update_service(self.busy(replicas, turn)).await?;
                let mut wanted = self.wanted();
                (wanted.replicas, wanted.turn) = (Some(replicas), Some(turn));
            }
            Fault::Recreate => self.recreate(&ground.client).await?,
            _ => {}
        }
        Ok(())
    }

    async fn recreate(&self, client: &Client) -> anyhow::Result<()> {
        client.remove_service(PASSING).await?;
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            // Its name is taken until its last task has ended.
            match client.create_service(self.spec(PASSING, 1)).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// What is wrong with the changed service, by what was acknowledged of it.
    pub async fn missing(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let wanted = *self.wanted();
        let services = client.services().await?;
        let busy = services.iter().find(|found| found.spec.as_ref().is_some_and(|spec| spec.name == BUSY));
        let Some(busy) = busy else { return Ok(vec![format!("{BUSY} was acknowledged, and is not there")]) };
        let mut wrong = Vec::new();
        if wanted.replicas.is_some_and(|replicas| replicas != busy.replicas_desired) {
            wrong.push(format!("{BUSY} was last acknowledged as {wanted:?}, and wants {}", busy.replicas_desired));
        }
        let turn = busy.spec.as_ref().and_then(|spec| spec.env.get(TURN)).cloned();
        if wanted.turn.is_some_and(|wanted| turn.as_deref() != Some(&wanted.to_string())) {
            wrong.push(format!("{BUSY} was last acknowledged as {wanted:?}, and has {turn:?}"));
        }
        Ok(wrong)
    }
}
