//! Disks that report that they could not write: strace lets the system calls of a running process fail.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::Error;
use crate::programs;

const ATTACHES_WITHIN: Duration = Duration::from_secs(10);
const DETACHES_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Lets every fsync of the process fail, from when this returns.
pub async fn attach(pid: i32) -> Result<Child, Error> {
    let strace = Command::from(programs::command("strace"))
        .args(["-f", "-qqq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p"])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut strace = strace.map_err(Error::io("start", Path::new("strace")))?;
    let deadline = Instant::now() + ATTACHES_WITHIN;
    while !is_traced(pid) {
        if let Ok(Some(status)) = strace.try_wait() {
            return Err(Error::failed(format!(
                "strace cannot attach to process {pid} ({status}); is another tracer there?"
            )));
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!(
                "strace has not attached to process {pid} in {} s",
                ATTACHES_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(strace)
}

/// Every thread is.
fn is_traced(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.filter_map(Result::ok).all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        // One that has ended meanwhile needs no tracer.
        tracer.is_none_or(|tracer| tracer.trim() != "0")
    })
}

/// It detaches on a signal, and ends by itself when the process has.
pub async fn detach(strace: &mut Child) -> Result<(), Error> {
    if let Some(pid) = strace.id() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGTERM);
    }
    match tokio::time::timeout(DETACHES_WITHIN, strace.wait()).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::failed("strace does not detach from the manager")),
    }
}
