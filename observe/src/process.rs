//! What the system says of this process, under the names that Prometheus' own clients use.

use std::fmt;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use crate::metric::{Metric, Sheet, Show};

pub const RESIDENT_MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", &[], "Memory of this process that is in RAM");
pub const CPU_SECONDS: Metric = Metric::counter(
    "process_cpu_seconds_total",
    &[],
    "CPU time that this process has used, the kernel's for it included",
);
pub const OPEN_FDS: Metric = Metric::gauge("process_open_fds", &[], "Open file descriptors");
pub const MAX_FDS: Metric = Metric::gauge("process_max_fds", &[], "File descriptors that may be open");
pub const THREADS: Metric = Metric::gauge("process_threads", &[], "Threads of this process");
pub const START_TIME: Metric =
    Metric::gauge("process_start_time_seconds", &[], "When this process started (Unix time)");

pub const ALL: &[Metric] = &[RESIDENT_MEMORY, CPU_SECONDS, OPEN_FDS, MAX_FDS, THREADS, START_TIME];

/// This process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisProcess;

impl Show for ThisProcess {
    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        // What cannot be read is left out: /proc may not be there.
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            sheet.one(&RESIDENT_MEMORY, stat.rss_bytes().get())?;
            sheet.one(&CPU_SECONDS, (stat.utime + stat.stime) as f64 / ticks)?;
            sheet.one(&THREADS, u64::try_from(stat.num_threads).unwrap_or(0))?;
            if let Ok(boot) = procfs::boot_time_secs() {
                sheet.one(&START_TIME, boot as f64 + stat.starttime as f64 / ticks)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            sheet.one(&OPEN_FDS, open)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            sheet.one(&MAX_FDS, most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metric::{page, register};

    #[test]
    fn this_process_uses_memory_and_has_files_open() {
        let mut registry = Registry::default();
        register(&mut registry, ThisProcess);
        let text = page(&registry).expect("it can be written");
        for metric in ALL {
            let line = text.lines().find_map(|line| line.strip_prefix(metric.name)?.strip_prefix(' '));
            let value: f64 = line.expect(metric.name).parse().expect("a number");
            assert!(value > 0.0 || metric.name == CPU_SECONDS.name, "{} is {value}", metric.name);
        }
    }
}
