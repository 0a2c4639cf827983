//! Out of a saved snapshot: the whole cluster after all managers have lost their data, and services that were removed or
//! changed by mistake.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::Kind;
use super::look::WITHIN;
use super::role::Role;
use super::stage::{Measured, Stage};
use crate::error::Error;
use crate::goatctl;

const POLL: Duration = Duration::from_millis(100);
const DOWN_S: u64 = 10;
/// What the mistaken scaling leaves.
const FEWER: u32 = 1;

pub(super) async fn run(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    if kind == Kind::SnapshotUndo { undo(stage).await } else { restore(stage).await }
}

/// All managers are killed and their data is gone; a file that one of them had saved by itself is all that is left.
async fn restore(stage: &mut Stage) -> Result<Measured, Error> {
    let file = saved(stage).await?;
    // Afterwards one task is replaced by another, of which the file knows nothing.
    replace_one(stage).await?;
    stage.judge_from_now();
    stage.resume();
    let victims = stage.managers();
    let killed = stage.restart_clock();
    stage.rules.may_fail_requests = true;
    stage.rules.may_stop.push(Role::Stop);
    // What was written since the file was made is lost, and is not asked for.
    stage.abandon().await;
    futures::future::try_join_all(victims.iter().map(|name| stage.remote().kill(name, false))).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {}, for good", victims.join(", ")));
    tokio::time::sleep_until(killed + stage.length(DOWN_S)).await;
    let Some((first, others)) = victims.split_first() else { return Err(Error::usage("this drill needs managers")) };
    let began = Instant::now();
    stage.remote().restore(first, &file).await?;
    let restored_ms = began.elapsed().as_secs_f64() * 1e3;
    stage.timeline.tell(format!("{first} was made again from {}", shown(&file)));
    stage.resume();
    let accepted = stage.accepted(began).await?;
    stage.timeline.tell(format!("{first} leads alone"));
    for name in others {
        stage.remote().join(name).await?;
        stage.timeline.tell(format!("{name} joins anew"));
    }
    stage.whole().await?;
    stage.term = stage.client().status().await?.term;
    let whole_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok(vec![
        ("restoring itself", restored_ms),
        ("restoring begun to next accepted write", accepted),
        ("restoring begun to whole, three managers", whole_ms),
    ])
}

/// Writes stop, so that nothing acknowledged is newer than the file. A copy of the newest one that has all of it.
async fn saved(stage: &mut Stage) -> Result<PathBuf, Error> {
    stage.quiet().await?;
    let index = stage.client().status().await?.read.unwrap_or_default().index;
    let deadline = Instant::now() + WITHIN;
    let dir = stage.remote().layout().backups();
    let (name, from) = loop {
        match newest(&dir)? {
            Some((found, name)) if found >= index => break (name.clone(), dir.join(name)),
            _ if Instant::now() >= deadline => {
                return Err(Error::failed(format!(
                    "no snapshot with index {index} in {} after {} s",
                    dir.display(),
                    WITHIN.as_secs()
                )));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    };
    // Those beyond the newest few are removed.
    let copy = stage.remote().layout().dir.join("load").join(name);
    std::fs::create_dir_all(stage.remote().layout().dir.join("load")).map_err(Error::io("make", &copy))?;
    std::fs::copy(&from, &copy).map_err(Error::io("copy", &from))?;
    stage.timeline.tell(format!("saved by itself: {}", shown(&copy)));
    Ok(copy)
}

/// Its index and its name; they sort by time.
fn newest(dir: &Path) -> Result<Option<(u64, String)>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        names.push(entry.map_err(Error::io("list", dir))?.file_name().to_string_lossy().into_owned());
    }
    let index = |name: &String| name.split('-').nth(3).and_then(|digits| digits.parse().ok());
    Ok(names.into_iter().filter_map(|name| Some((index(&name)?, name))).max())
}

async fn replace_one(stage: &Stage) -> Result<(), Error> {
    let name = stage.service(Role::Keep).to_owned();
    let replicas = replicas(stage, &name).await?;
    for wanted in [replicas - 1, replicas] {
        stage.client().scale_service(&name, wanted).await?;
        stage.whole().await?;
    }
    stage.timeline.tell(format!("{name} has another task in slot {replicas}, and the file does not know it"));
    Ok(())
}

async fn replicas(stage: &Stage, name: &str) -> Result<u32, Error> {
    let services = stage.client().services().await?;
    let service = services.iter().find(|service| service.spec.as_ref().is_some_and(|spec| spec.name == name));
    service.map(|service| service.replicas_desired).ok_or_else(|| Error::failed(format!("there is no service {name}")))
}

/// One service is removed and another scaled, by mistake: twice, and brought back once after the removal is done and once
/// in the middle of it.
async fn undo(stage: &mut Stage) -> Result<Measured, Error> {
    stage.rules.may_stop.extend([Role::Keep, Role::Stop]);
    let layout = stage.remote().layout().clone();
    let file = layout.dir.join("load").join("before.snapshot");
    std::fs::create_dir_all(layout.dir.join("load")).map_err(Error::io("make", &file))?;
    let _ = std::fs::remove_file(&file);
    let began = Instant::now();
    goatctl::run(&layout, &["operator", "snapshot", "save", &file.display().to_string()]).await?;
    let saved_ms = began.elapsed().as_secs_f64() * 1e3;
    let mut longest_ms: f64 = 0.0;
    for waits in [true, false] {
        blunder(stage, waits).await?;
        let began = Instant::now();
        // The recorder's own services come and go: they are nobody's mistake.
        let names = stage.services.iter().map(|(_, name)| name.as_str());
        let file = file.display().to_string();
        let args: Vec<_> = ["operator", "snapshot", "restore", &file, "--yes"].into_iter().chain(names).collect();
        let said = goatctl::run(&layout, &args).await?;
        stage.timeline.tell(said.lines().last().unwrap_or_default().to_owned());
        stage.whole().await?;
        longest_ms = longest_ms.max(began.elapsed().as_secs_f64() * 1e3);
        let again = goatctl::run(&layout, &args).await?;
        if !again.contains("nothing to do") {
            stage.wrong.push(format!("a second restore had something to do: {again}"));
        }
    }
    Ok(vec![("saving", saved_ms), ("restore to whole, the longer", longest_ms)])
}

/// `waits`: until the service is gone.
async fn blunder(stage: &Stage, waits: bool) -> Result<(), Error> {
    let (removed, scaled) = (stage.service(Role::Keep).to_owned(), stage.service(Role::Stop).to_owned());
    stage.client().scale_service(&scaled, FEWER).await?;
    if waits {
        goatctl::run(stage.remote().layout(), &["service", "rm", &removed]).await?;
    } else {
        stage.client().remove_service(&removed).await?;
    }
    stage.timeline.tell(format!("by mistake: {removed} removed, {scaled} scaled to {FEWER}"));
    Ok(())
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
