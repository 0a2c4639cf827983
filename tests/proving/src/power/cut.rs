//! Cutting the power of running managers: first nothing runs any more, then nothing that was not synced is left.
//!
//! ```text
//! SIGSTOP ─► every thread has stopped ─► the file system is shut down ─► SIGKILL ─► unmounted
//! ```
//! Without the wait a thread could still be told by the kernel that something is synced which is lost. Shutting down
//! without a flush of the journal (`FS_IOC_SHUTDOWN` with `NOLOGFLUSH`) leaves on the device what had reached it, and
//! drops all that was in memory. The device itself forgets nothing: a disk that lies about its cache is not played.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::{Cluster, images};
use tokio::time::Instant;

/// `EXT4_GOING_FLAGS_NOLOGFLUSH`, and the same of XFS.
const NO_LOG_FLUSH: u32 = 2;
const STOPS_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_micros(200);

/// Takes the power from these managers at one moment. Afterwards they do not run, and their disks are not mounted.
pub async fn cut(cluster: &Cluster, names: &[String]) -> anyhow::Result<()> {
    let status = cluster.status().await;
    let pid_of = |name: &String| status.iter().find(|member| member.name == *name).and_then(|member| member.pid);
    let pids: Option<Vec<i32>> = names.iter().map(pid_of).collect();
    let pids = pids.context("a manager whose power is to be cut does not run")?;
    for name in names {
        cluster.freeze(name).await?;
    }
    let deadline = Instant::now() + STOPS_WITHIN;
    while !pids.iter().all(|pid| has_stopped(*pid)) {
        anyhow::ensure!(Instant::now() < deadline, "a manager does not stop on SIGSTOP");
        tokio::time::sleep(LOOK).await;
    }
    let layout = cluster.layout();
    let dirs = names.iter().map(|name| Ok(layout.data_dir(layout.find(name)?)));
    let dirs = dirs.collect::<anyhow::Result<Vec<_>>>()?;
    for dir in &dirs {
        shut_down(dir).with_context(|| format!("the file system of {} cannot be shut down", dir.display()))?;
    }
    for name in names {
        cluster.kill(name, false).await?;
    }
    for dir in &dirs {
        images::unmount(dir)?;
    }
    Ok(())
}

/// Every thread of it.
fn has_stopped(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.filter_map(Result::ok).all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // One that has ended meanwhile does nothing any more.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_none_or(|state| matches!(state, 'T' | 'Z' | 'X'))
    })
}

#[allow(unsafe_code, reason = "what the macro makes")]
mod call {
    nix::ioctl_read!(shutdown, b'X', 125, u32);
}

/// Nothing that is not on the device by now gets there any more.
#[allow(unsafe_code, reason = "nix has no safe call for this ioctl")]
fn shut_down(mounted: &Path) -> anyhow::Result<()> {
    let dir = File::open(mounted)?;
    let mut flag = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open, and the kernel reads one u32 at the pointer, which outlives the call.
    unsafe { call::shutdown(dir.as_raw_fd(), &raw mut flag) }?;
    Ok(())
}
