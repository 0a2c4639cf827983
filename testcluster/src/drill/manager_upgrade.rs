//! Managers are replaced by another version, one after the other, and back; then for good. The other version is a build
//! that knows a command which this one cannot read, and writes it as soon as it may.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::look::WITHIN;
use super::stage::{Measured, Stage};
use crate::cluster::{Condition, Options};
use crate::control::Ask;
use crate::error::Error;

/// Below the other programs; `testcluster/build next` makes it.
pub const NEXT: &str = "next";
const POLL: Duration = Duration::from_millis(50);
/// What the other version logs when it has written what only it can read.
const WRITTEN: &str = "a command of the next format was written";
/// What a version that is too old says.
const REFUSED: &str = "upgrade this manager";

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let this = Options::binaries()?;
    let next = this.join(NEXT);
    let is_last = stage.nth == stage.repeats();
    let began = stage.restart_clock();
    roll(stage, &next, "the next version").await?;
    let there = stage.recorder()?.longest_gap(began);
    let back_began = Instant::now();
    roll(stage, &this, "this version again").await?;
    let back = stage.recorder()?.longest_gap(back_began);
    if logged(stage, WRITTEN) {
        stage.wrong.push("what this version cannot read was written while it could still come back".into());
    }
    // From then on this version cannot manage the cluster any more.
    if is_last {
        roll(stage, &next, "the next version").await?;
        for_good(stage, &this, &next).await?;
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(vec![("write gap, to the next version", ms(there)), ("write gap, and back", ms(back))])
}

/// Followers first, so that leadership moves once.
async fn roll(stage: &mut Stage, binaries: &Path, what: &str) -> Result<(), Error> {
    let leader = stage.client().status().await?.leader;
    let mut names = stage.managers();
    names.sort_by_key(|name| *name == leader);
    for name in names {
        replace(stage, &name, binaries).await?;
        stage.timeline.tell(format!("{name} is {what}"));
    }
    Ok(())
}

/// SIGTERM, then the program from that directory; returns when the cluster is whole.
async fn replace(stage: &mut Stage, name: &str, binaries: &Path) -> Result<(), Error> {
    let status = stage.client().status().await?;
    stage.remote().stop(name).await?;
    if status.leader == name {
        let (_, term) = stage.next_leader(name, status.term).await?;
        stage.term = term;
    }
    start(stage, name, binaries).await?;
    stage.whole().await
}

async fn start(stage: &Stage, name: &str, binaries: &Path) -> Result<(), Error> {
    stage.remote().ask(&Ask::Start { name: name.to_owned(), binaries: Some(PathBuf::from(binaries)) }).await
}

/// The cluster uses the newer format, and an older manager is refused and harms nobody.
async fn for_good(stage: &mut Stage, this: &Path, next: &Path) -> Result<(), Error> {
    let upgraded = stage.client().upgrade_cluster().await?;
    stage.timeline.tell(format!("format {} instead of {}", upgraded.format, upgraded.before));
    let deadline = Instant::now() + WITHIN;
    while !logged(stage, WRITTEN) {
        if Instant::now() >= deadline {
            return Err(Error::failed("the leader does not write what the cluster may use now"));
        }
        tokio::time::sleep(POLL).await;
    }
    let leader = stage.client().status().await?.leader;
    let follower = stage.managers().into_iter().find(|name| *name != leader);
    let follower = follower.ok_or_else(|| Error::failed("there is no follower"))?;
    stage.remote().stop(&follower).await?;
    start(stage, &follower, this).await?;
    while !ended(stage, &follower).await? {
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("{follower} runs, and is of a version that cannot read the log")));
        }
        tokio::time::sleep(POLL).await;
    }
    if !logged(stage, REFUSED) {
        stage.wrong.push(format!("{follower} ended without saying that it has to be upgraded"));
    }
    stage.timeline.tell(format!("{follower} of this version is refused"));
    start(stage, &follower, next).await
}

async fn ended(stage: &Stage, name: &str) -> Result<bool, Error> {
    let members = stage.remote().status().await?.members;
    Ok(members.iter().any(|member| member.name == name && matches!(member.condition, Condition::Ended(_))))
}

/// Whether any manager has said so.
fn logged(stage: &Stage, text: &str) -> bool {
    let layout = stage.remote().layout();
    let logs = stage.managers().into_iter().map(|name| std::fs::read_to_string(layout.log_path(&name)));
    logs.filter_map(Result::ok).any(|log| log.contains(text))
}
