//! The machine has no CPU and no disk to spare for a while: nobody may take that for a failure.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::stage::{Measured, Stage};
use crate::error::Error;
use crate::programs;

const LOADED_S: u64 = 60;

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let length = stage.length(LOADED_S);
    let dir = stage.remote().layout().dir.join("load");
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    let began = stage.restart_clock();
    let stress = Command::from(programs::command("stress-ng"))
        // As many as there are CPUs, and two that write and sync without pause.
        .args(["--cpu", "0", "--hdd", "2", "--hdd-opts", "fsync", "--hdd-bytes", "256m", "--timeout"])
        .arg(length.as_secs().to_string())
        .arg("--temp-path")
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut stress = stress.map_err(Error::io("start", Path::new("stress-ng")))?;
    stage.timeline.tell(format!("full load on CPU and disk for {} s", length.as_secs()));
    let status = stress.wait().await.map_err(Error::io("wait for", Path::new("stress-ng")))?;
    let gap = stage.recorder()?.longest_gap(began);
    stage.timeline.tell(format!("longest time without an accepted write {} ms", gap.as_millis()));
    if !status.success() || began.elapsed() < length {
        return Err(Error::failed(format!("stress-ng ended early ({status}): there was no full load")));
    }
    Ok(vec![("write gap", gap.as_secs_f64() * 1e3)])
}
