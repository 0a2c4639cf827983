//! Size of a simulated cluster, and which host is what.

use crate::kernel::HostId;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub managers: usize,
    pub workers: usize,
    pub clients: usize,
    /// Between two requests of one client, about (ms).
    pub pace_ms: u64,
    pub snapshot_entries: u64,
    /// Disks forget what they said to have synced: something must be found then.
    pub is_control: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { managers: 3, workers: 3, clients: 2, pace_ms: 1_500, snapshot_entries: 300, is_control: false }
    }
}

impl Shape {
    pub const fn hosts(&self) -> usize {
        self.managers + 2 * self.workers + 1
    }

    pub const fn client_host(&self) -> HostId {
        self.hosts() - 1
    }

    /// Managers and workers' agents.
    pub const fn members(&self) -> usize {
        self.managers + self.workers
    }

    pub const fn watchdog(&self, worker: HostId) -> HostId {
        worker + self.workers
    }
}
