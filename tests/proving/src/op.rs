//! What clients asked and what they were answered: the history that everything else judges. Judges nothing itself.

use std::fmt;
use std::sync::{Arc, Mutex};

use goat_proto::v1;
use tokio::time::Instant;

/// What was asked. The value is an environment variable of the service, and unique in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Create { name: String, value: String, replicas: u32 },
    Update { name: String, value: String, replicas: u32 },
    Scale { name: String, replicas: u32 },
    Remove { name: String },
    Get { name: String, is_stale: bool },
    List { is_stale: bool },
}

impl Call {
    /// The service it is about; None where it is about all.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Create { name, .. }
            | Self::Update { name, .. }
            | Self::Scale { name, .. }
            | Self::Remove { name }
            | Self::Get { name, .. } => Some(name),
            Self::List { .. } => None,
        }
    }

    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::List { .. })
    }

    /// Whether it asked for what may be old.
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Get { is_stale: true, .. } | Self::List { is_stale: true })
    }
}

/// Where in the log a refusal belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The log refused the command at this index.
    Log(u64),
    /// The state up to this index was the reason, and nothing was proposed.
    Read(u64),
    /// It was not said.
    Nowhere,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done {
        id: String,
        version: u64,
        index: u64,
    },
    Service {
        index: u64,
        service: Box<v1::Service>,
    },
    Services {
        index: u64,
        services: Vec<v1::Service>,
    },
    Refused {
        code: tonic::Code,
        text: String,
        place: Place,
    },
    /// A mutation may have taken effect, may still do so, or never.
    Unknown {
        why: String,
    },
}

impl Answer {
    /// The place in the log that it speaks of.
    pub const fn index(&self) -> Option<u64> {
        match self {
            Self::Done { index, .. } | Self::Service { index, .. } | Self::Services { index, .. } => Some(*index),
            Self::Refused { place: Place::Log(index) | Place::Read(index), .. } => Some(*index),
            Self::Refused { place: Place::Nowhere, .. } | Self::Unknown { .. } => None,
        }
    }

    /// Whether it is the answer of an entry in the log, that no other command has.
    pub const fn is_of_an_entry(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Refused { place: Place::Log(_), .. })
    }

    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// One attempt at one manager. Those of one request share its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    pub client: usize,
    /// The manager, from 0.
    pub at: usize,
    /// Of mutations.
    pub request: Option<String>,
    pub call: Call,
    /// Since the history's beginning, on one clock for all clients.
    pub invoked_us: u64,
    /// When the answer was there, or was not waited for any more.
    pub answered_us: u64,
    pub answer: Answer,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, at, invoked_us, answered_us, call, answer, .. } = self;
        let request = self.request.as_deref().unwrap_or("-");
        write!(f, "{invoked_us}..{answered_us} us, client {client} at m{}, request {request}: ", at + 1)?;
        write!(f, "{call:?} -> ")?;
        match answer {
            Answer::Services { index, services } => write!(f, "{} services at {index}", services.len()),
            answer => write!(f, "{answer:?}"),
        }
    }
}

/// Takes down what happens, for all clients.
#[derive(Debug, Clone)]
pub struct Book {
    began: Instant,
    ops: Arc<Mutex<Vec<Op>>>,
}

impl Default for Book {
    fn default() -> Self {
        Self { began: Instant::now(), ops: Arc::default() }
    }
}

impl Book {
    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros().min(u128::from(u64::MAX)) as u64
    }

    pub fn add(&self, op: Op) {
        self.ops.lock().expect("no panic holds it").push(op);
    }

    pub fn len(&self) -> usize {
        self.ops.lock().expect("no panic holds it").len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a mutation was acknowledged that was asked for after that moment.
    pub fn has_written_since(&self, since_us: u64) -> bool {
        let ops = self.ops.lock().expect("no panic holds it");
        let recent = ops.iter().rev().take_while(|op| op.answered_us >= since_us);
        recent.into_iter().any(|op| op.invoked_us >= since_us && matches!(op.answer, Answer::Done { .. }))
    }

    /// Everything so far, by the time of its invocation.
    pub fn history(&self) -> Vec<Op> {
        let mut ops = self.ops.lock().expect("no panic holds it").clone();
        ops.sort_by_key(|op| op.invoked_us);
        ops
    }
}
