//! A reader of a long log pauses: every line arrives in the end, and nobody else notices.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::Instant;

use super::liveness::{Allowed, Period};
use crate::drill::look::WITHIN;
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::goatctl;

/// About as many as the process runtime keeps: two files of 10 MiB.
const LINES: u64 = 600_000;
const PAUSE_S: u64 = 25;
/// Read before the pause: more than nothing, less than what is under way.
const FIRST_BYTES: usize = 64 << 10;
const READ_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("lines", 1)?;
    spec.command = vec!["/bin/sh".into(), "-c".into(), format!("seq 1 {LINES}; exec sleep 3600")];
    let name = spec.name.clone();
    stage.client().create_service(spec).await?;
    let task = format!("{name}.1");
    printed(stage, &task).await?;
    stage.timeline.tell(format!("{task} has printed {LINES} lines"));

    let what = format!("a reader that pauses for {} s", stage.length(PAUSE_S).as_secs());
    let period = Period::begin(stage, &what).await?;
    let resumed = read(stage, &task, &what).await?;
    period.end(stage, ALLOWED).await?;
    let took_ms = resumed.elapsed().as_secs_f64() * 1e3;
    stage.client().remove_service(&name).await?;
    stage.whole_again(&what).await?;
    Ok(vec![("pause to last line", took_ms)])
}

/// Reads the task's output with a pause. Returns when the reader went on.
async fn read(stage: &mut Stage, task: &str, what: &str) -> Result<Instant, Error> {
    let mut reader = goatctl(stage, &["task", "logs", task])?;
    let mut output = reader.stdout.take().ok_or_else(|| Error::failed("goatctl has no output"))?;
    let mut buffer = vec![0; FIRST_BYTES];
    let io = |source| Error::Io { what: "cannot read goatctl's output".into(), source };
    output.read_exact(&mut buffer).await.map_err(io)?;
    let mut lines = count(&buffer);
    tokio::time::sleep(stage.length(PAUSE_S)).await;
    stage.timeline.tell(format!("the reader goes on, {lines} lines so far"));
    let resumed = Instant::now();
    let rest = async {
        loop {
            match output.read(&mut buffer).await? {
                0 => return Ok(()),
                bytes => lines += count(&buffer[..bytes]),
            }
        }
    };
    let rest = tokio::time::timeout(READ_WITHIN, rest).await;
    rest.map_err(|_| Error::failed(format!("the output did not end within {} s", READ_WITHIN.as_secs())))?
        .map_err(io)?;
    let ended = reader.wait_with_output().await.map_err(io)?;
    stage.timeline.tell(format!("{lines} lines arrived; goatctl ended with {}", ended.status));
    if lines != LINES || !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        stage.wrong.push(format!("{what}: {lines} of {LINES} lines arrived, {}: {}", ended.status, said.trim()));
    }
    Ok(resumed)
}

fn count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn goatctl(stage: &Stage, args: &[&str]) -> Result<Child, Error> {
    let mut command = goatctl::command(stage.remote().layout())?;
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|source| Error::Io { what: "cannot start goatctl".into(), source })
}

/// Waits until the task has printed its last line.
async fn printed(stage: &Stage, task: &str) -> Result<(), Error> {
    let last = format!("{LINES}\n");
    let deadline = Instant::now() + WITHIN;
    loop {
        let read = goatctl(stage, &["task", "logs", "--tail", "1", task])?.wait_with_output().await;
        let read = read.map_err(|source| Error::Io { what: "cannot read goatctl's output".into(), source })?;
        if read.stdout == last.as_bytes() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (out, err) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
            return Err(Error::failed(format!("{task} has not printed its last line: {out}{err}")));
        }
        tokio::time::sleep(POLL).await;
    }
}
