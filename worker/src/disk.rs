//! Whether the disk is under pressure: room is measured, and a task that found none is believed over the measure.
//!
//! ```text
//! clear -- free < below, or a task failed for want of room --> pressed
//! clear <-- free >= 1.5 * below, and after a failure also: room was made, or a minute has passed -- pressed
//! ```
//! The gap keeps a disk at the threshold from changing its mind with every file. A failure proves want of room for one
//! image only, which may be large, so it does not hold a node back for ever.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

/// Of the file system, where nothing is configured.
const DEFAULT_PERCENT: u64 = 5;
/// But no more than this.
const DEFAULT_MOST_BYTES: u64 = 1 << 30;
/// Free inodes below a hundredth of all are no room either.
const INODES_PERCENT: u64 = 1;
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Zero where the file system does not count them.
    pub total_inodes: u64,
    pub free_inodes: u64,
}

impl Room {
    /// Of the file system that `path` is on.
    pub fn measure(path: &Path) -> Option<Self> {
        let stat = statvfs(path).ok()?;
        let block_bytes = stat.fragment_size();
        Some(Self {
            total_bytes: stat.blocks() * block_bytes,
            free_bytes: stat.blocks_available() * block_bytes,
            total_inodes: stat.files(),
            free_inodes: stat.files_available(),
        })
    }
}

/// A task failed for want of room.
#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Instant,
    /// What was free right after it.
    free_bytes: u64,
}

/// The state of pressure.
#[derive(Debug, Default)]
pub struct Gauge {
    /// None: by the size of the file system.
    below_bytes: Option<u64>,
    is_pressed: bool,
    failures_seen: u64,
    failure: Option<Failure>,
}

impl Gauge {
    /// `below_bytes`: pressed when less is free; zero: only by failures.
    pub fn new(below_bytes: Option<u64>) -> Self {
        Self { below_bytes, ..Self::default() }
    }

    /// As last observed.
    pub const fn is_pressed(&self) -> bool {
        self.is_pressed
    }

    /// Whether there is pressure. `failures`: how many tasks have ever failed here for want of room.
    pub fn observe(&mut self, room: &Room, failures: u64, now: Instant) -> bool {
        if std::mem::replace(&mut self.failures_seen, failures) != failures {
            self.failure = Some(Failure { at: now, free_bytes: room.free_bytes });
        }
        let below = self.below_bytes.unwrap_or((room.total_bytes / 100 * DEFAULT_PERCENT).min(DEFAULT_MOST_BYTES));
        let inodes_below = if below == 0 { 0 } else { room.total_inodes / 100 * INODES_PERCENT };
        let has_less_than = |halves: u64| {
            room.free_bytes < below.saturating_mul(halves) / 2 || room.free_inodes < inodes_below * halves / 2
        };
        let is_over = |failure: &Failure| {
            let was_made = room.free_bytes >= failure.free_bytes.saturating_add(below.max(1));
            was_made || now.saturating_duration_since(failure.at) >= AFTER_FAILURE
        };
        let is_short = has_less_than(if self.is_pressed { 3 } else { 2 });
        self.failure = self.failure.filter(|failure| !is_over(failure));
        self.is_pressed = is_short || self.failure.is_some();
        self.is_pressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(free_mib: u64) -> Room {
        Room { total_bytes: 1_000 * MIB, free_bytes: free_mib * MIB, total_inodes: 1_000, free_inodes: 900 }
    }

    #[test]
    fn pressure_comes_at_the_threshold_and_goes_at_half_as_much_again() {
        let mut gauge = Gauge::new(Some(100 * MIB));
        let now = Instant::now();
        let told: Vec<bool> =
            [150, 100, 99, 100, 149, 150, 100].iter().map(|free| gauge.observe(&room(*free), 0, now)).collect();
        assert_eq!(told, [false, false, true, true, true, false, false]);
    }

    #[test]
    fn the_default_is_a_share_of_the_disk_up_to_a_limit_and_zero_is_none() {
        let now = Instant::now();
        let pressed = |below, room: Room| Gauge::new(below).observe(&room, 0, now);
        assert!(pressed(None, room(49)) && !pressed(None, room(50)));
        let large = |free_bytes| Room { total_bytes: 1 << 40, free_bytes, ..room(0) };
        assert!(pressed(None, large((1 << 30) - 1)) && !pressed(None, large(1 << 30)));
        assert!(!pressed(Some(0), room(0)));
        assert!(pressed(None, Room { free_inodes: 9, ..room(500) }));
        assert!(!pressed(None, Room { free_inodes: 0, total_inodes: 0, ..room(500) }));
    }

    #[test]
    fn a_failure_is_believed_until_room_was_made_or_for_a_minute() {
        let (mut gauge, begun) = (Gauge::new(Some(100 * MIB)), Instant::now());
        let after = |s| begun + Duration::from_secs(s);
        assert!(gauge.observe(&room(400), 1, begun));
        assert!(gauge.observe(&room(499), 1, after(59)));
        assert!(!gauge.observe(&room(500), 1, after(59)), "room was made");
        assert!(gauge.observe(&room(400), 2, after(100)), "another failure");
        assert!(!gauge.observe(&room(400), 2, after(160)), "for a minute");
        assert!(gauge.observe(&room(20), 3, after(200)));
        assert!(gauge.observe(&room(20), 3, after(900)), "there is no room anyway");
    }
}
