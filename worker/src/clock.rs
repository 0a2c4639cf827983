//! The worker's clocks and randomness. Decisions (`reconciler::plan`) are given times and never read a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Wall clock (Unix ms), for what people see.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A clock that never goes back and counts suspend (ms), for leases.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    now.tv_sec() as u64 * 1_000 + now.tv_nsec() as u64 / 1_000_000
}

/// Names this boot of the machine: process ids and boot times of another boot mean nothing. Empty where the kernel does
/// not say.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Unix ms of an RFC 3339 time as Docker writes it; None for text that is none and for Docker's year 1 ("never").
pub fn parse_time_ms(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as u64)
}

/// `base_ms` and up to as much again: peers that failed together do not come back together.
pub fn jittered_ms(base_ms: u64) -> u64 {
    base_ms + rand::random_range(0..=base_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_docker_are_read_and_never_is_none() {
        assert_eq!(parse_time_ms("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(parse_time_ms("2026-11-23T19:12:00.123456789Z"), Some(1_795_461_120_123));
        assert_eq!(parse_time_ms("0001-01-01T00:00:00Z"), None);
        assert_eq!(parse_time_ms("yesterday"), None);
    }
}
