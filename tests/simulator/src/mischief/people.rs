//! What people ask for.

use goat_core::model::{
    Authority, Availability, Driver, HealthCheck, HealthProbe, Invited, Mode, OnDisconnect, Placement, Port, Protocol,
    Resources, RestartCondition, RestartPolicy, Secret, ServiceId, ServiceSpec, Standing, Strategy,
};
use goat_core::state::command::Action;
use serde::{Deserialize, Serialize};

use super::MAX_MANAGERS;
use crate::random::Random;
use crate::script::Shape;

/// Services have numbers up to this one: few, so that what is removed is often made anew.
const SERVICES: u64 = 5;

/// A request. Services, machines and managers are numbers; ids are made of them when it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    Create(Box<Wanted>),
    Update {
        service: u64,
        image: u64,
    },
    Scale {
        service: u64,
        replicas: u32,
    },
    Remove {
        service: u64,
    },
    Drain {
        worker: usize,
    },
    Activate {
        worker: usize,
    },
    /// Once it is down.
    RemoveNode {
        worker: usize,
    },
    Freeze {
        for_ms: u64,
    },
    StopFreeze,
    AddManager {
        manager: usize,
    },
    SetManager {
        manager: usize,
        standing: Standing,
    },
    RotateSecret,
    RotateAuthority,
    RaiseFormat,
}

/// What a service is like, as far as it is varied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub service: u64,
    pub replicas: u32,
    pub on_disconnect: OnDisconnect,
    pub restart: RestartCondition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub cpu_millis: u64,
    pub has_health: bool,
    pub max_per_node: u32,
    pub strategy: Strategy,
}

impl Wanted {
    pub fn name(service: u64) -> String {
        format!("s{service}")
    }

    pub fn spec(&self) -> ServiceSpec {
        let port = |host_port| Port { host_port, container_port: 80, protocol: Protocol::Tcp };
        ServiceSpec {
            name: Self::name(self.service),
            driver: Driver::Docker,
            image: "registry.example/app:0".into(),
            mode: Mode::Replicated { replicas: self.replicas },
            reservations: Resources { cpu_millis: self.cpu_millis, ..Resources::ZERO },
            ports: self.port.into_iter().map(port).collect(),
            // Short waits, so that there is rest soon after everything is mended.
            restart: RestartPolicy {
                condition: self.restart,
                max_attempts: self.max_attempts,
                delay_ms: 200,
                max_delay_ms: 2_000,
                stable_after_ms: 5_000,
            },
            placement: Placement { strategy: self.strategy, max_per_node: self.max_per_node, ..Placement::default() },
            // Said outright: the default follows the count, and a change of it binds what runs only later.
            on_disconnect: Some(self.on_disconnect),
            health: self.has_health.then_some(HealthCheck {
                probe: HealthProbe::Tcp { port: 80 },
                interval_ms: 500,
                timeout_ms: 200,
                start_period_ms: 0,
                retries: 3,
            }),
            stop_grace_ms: 1_000,
            ..ServiceSpec::default()
        }
    }
}

impl Wish {
    pub fn create(random: &mut Random) -> Self {
        use RestartCondition::{Always, No, OnFailure, UnlessStopped};
        let restart = [Always, Always, Always, OnFailure, OnFailure, UnlessStopped, No][random.below(7) as usize];
        let leased = [OnDisconnect::Keep, OnDisconnect::Stop, OnDisconnect::Stop, OnDisconnect::StopIfIsolated];
        Self::Create(Box::new(Wanted {
            service: random.between(1, SERVICES),
            replicas: random.below(5) as u32,
            on_disconnect: leased[random.below(4) as usize],
            restart,
            max_attempts: (restart == OnFailure && random.once_in(2)).then_some(3),
            port: random.once_in(4).then(|| 7_000 + random.below(2) as u16),
            cpu_millis: random.between(50, 600),
            has_health: random.once_in(3),
            max_per_node: [0, 0, 0, 2][random.below(4) as usize],
            strategy: [Strategy::Spread, Strategy::Binpack, Strategy::Epvm][random.below(3) as usize],
        }))
    }

    pub fn draw(random: &mut Random, shape: &Shape) -> Self {
        let (service, worker) = (random.between(1, SERVICES), random.below(shape.workers as u64) as usize);
        match random.below(25) {
            0..=3 => Self::create(random),
            4..=7 => Self::Update { service, image: random.below(3) },
            8..=11 => Self::Scale { service, replicas: random.below(6) as u32 },
            12 | 13 => Self::Remove { service },
            14 => Self::Drain { worker },
            15 | 16 => Self::Activate { worker },
            17 => Self::RemoveNode { worker },
            18 => Self::Freeze { for_ms: random.between(500, 12_000) },
            19 => Self::AddManager { manager: random.below(MAX_MANAGERS as u64) as usize },
            20 => {
                let standing = [Standing::Voter, Standing::Learner, Standing::Removed][random.below(3) as usize];
                Self::SetManager { manager: random.below(MAX_MANAGERS as u64) as usize, standing }
            }
            21 => Self::RotateSecret,
            22 => Self::RotateAuthority,
            23 => Self::StopFreeze,
            _ => Self::RaiseFormat,
        }
    }

    /// None where it takes more than its own words to say (a node's id, a manager's number).
    pub fn action(&self, number: u64) -> Option<Action> {
        let secret = || Secret::new(format!("secret-{number}"));
        Some(match self {
            Self::Create(wanted) => {
                Action::CreateService { id: ServiceId::from_random(1_000 + number), spec: Box::new(wanted.spec()) }
            }
            Self::Freeze { for_ms } => Action::Freeze { for_ms: *for_ms },
            Self::StopFreeze => Action::StopFreeze,
            Self::AddManager { manager } => {
                Action::AddManager { name: format!("m{manager}"), address: format!("10.0.0.{}:7700", manager + 1) }
            }
            Self::RotateSecret => Action::RotateJoinSecret { invited: Invited::Worker, secret: secret() },
            Self::RotateAuthority => {
                let authority = Authority { certificate: format!("certificate-{number}"), key: secret() };
                Action::AnnounceAuthority { authority }
            }
            Self::RaiseFormat => Action::SetFormat { format: goat_core::codec::FORMAT },
            _ => return None,
        })
    }

    /// What it asks of a worker's node.
    pub fn of_worker(&self) -> Option<(usize, Option<Availability>)> {
        match self {
            Self::Drain { worker } => Some((*worker, Some(Availability::Drain))),
            Self::Activate { worker } => Some((*worker, Some(Availability::Active))),
            Self::RemoveNode { worker } => Some((*worker, None)),
            _ => None,
        }
    }
}
