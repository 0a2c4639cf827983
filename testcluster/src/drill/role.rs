//! Who plays in a drill: its three services, and the size of its cluster.

use std::fmt;

use crate::daemons::DaemonOptions;

/// The services that every drill looks at, by what they want when managers cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Keep,
    Stop,
    /// A single instance.
    Isolated,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Keep, Self::Stop, Self::Isolated];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Stop => "stop",
            Self::Isolated => "stop-if-isolated",
        }
    }

    /// The measure: from the failure until all its slots ran elsewhere.
    pub const fn replaced(self) -> &'static str {
        match self {
            Self::Keep => "replaced (keep)",
            Self::Stop => "replaced (stop)",
            Self::Isolated => "replaced (stop-if-isolated)",
        }
    }

    /// The measure: from the failure until its instances had ended where they were.
    pub const fn stopped(self) -> &'static str {
        match self {
            Self::Keep => "old ones stopped (keep)",
            Self::Stop => "old ones stopped (stop)",
            Self::Isolated => "old ones stopped (stop-if-isolated)",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The cluster that a drill needs.
#[derive(Debug, Clone)]
pub struct Scene {
    pub managers: u8,
    /// Managers that do not run until they join.
    pub spares: u8,
    pub workers: u8,
    pub keep_replicas: u32,
    pub stop_replicas: u32,
    /// Each manager's data is on a file system of its own of that size. Needs root.
    pub manager_disk_mib: Option<u32>,
    /// Each worker has a Docker daemon of its own. Needs root.
    pub daemons: Option<DaemonOptions>,
    /// Managers' disks can be slowed down.
    pub slow_disks: bool,
    /// Managers save the state every second.
    pub is_backed_up: bool,
    /// Task limit of each worker. `None`: the worker's own default.
    pub max_tasks: Option<u32>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            managers: 3,
            spares: 0,
            workers: 3,
            keep_replicas: 3,
            stop_replicas: 3,
            manager_disk_mib: None,
            daemons: None,
            slow_disks: false,
            is_backed_up: false,
            max_tasks: None,
        }
    }
}
