//! Memory of managers while somebody tries to fill it.

use std::path::PathBuf;

use crate::drill::stage::Stage;
use crate::error::Error;

/// What strangers together, or one worker, may hold in a manager.
pub const MAX_GROWTH_KIB: u64 = 64 << 10;

/// Memory of one process when it was first looked at.
#[derive(Debug)]
struct Start {
    name: String,
    pid: i32,
    kib: u64,
}

/// Memory of all managers from a moment on.
#[derive(Debug)]
pub struct Memory(Vec<Start>);

impl Memory {
    /// Begins now; the kernel's record of each process's peak begins anew.
    pub async fn begin(stage: &Stage) -> Result<Self, Error> {
        let members = stage.remote().status().await?.members;
        let managers = members.into_iter().filter(|member| member.name.starts_with('m'));
        let mut starts = Vec::new();
        for (name, pid) in managers.filter_map(|member| Some((member.name, member.pid?))) {
            let path = PathBuf::from(format!("/proc/{pid}/clear_refs"));
            std::fs::write(&path, "5").map_err(Error::io("reset the peak of", &path))?;
            starts.push(Start { kib: field(pid, "VmRSS:").unwrap_or_default(), name, pid });
        }
        Ok(Self(starts))
    }

    /// What is wrong with the growth so far. Managers that have ended meanwhile are left out.
    pub fn check(&self, stage: &mut Stage, what: &str) {
        for Start { name, pid, kib } in &self.0 {
            let Some(peak) = field(*pid, "VmHWM:") else { continue };
            let grown = peak.saturating_sub(*kib);
            stage.timeline.tell(format!("{what}: {name} grew from {} MiB by {} MiB", kib >> 10, grown >> 10));
            if grown > MAX_GROWTH_KIB {
                let most = MAX_GROWTH_KIB >> 10;
                stage.wrong.push(format!("{what}: {name} grew by {} MiB, at most {most} MiB are allowed", grown >> 10));
            }
        }
    }
}

/// A field of `/proc/PID/status`, in KiB.
fn field(pid: i32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
