//! Damage: one manager's files are changed while it does not run. It has to refuse to start, with a word that says what is
//! damaged, or to be none the worse; and the others have to go on with everything.
//!
//! Whether it is the worse: its vote and its log's end are read before and after. A manager that runs with less than it had
//! acknowledged may elect a leader that misses it. What it was just writing when it was killed, it had told nobody of: it
//! counts by what it had promised, which may not be far from what it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use goat_raft_store::{Offline, Promised};
use goat_testcluster::Cluster;
use goat_testcluster::cluster::{Condition, Options};
use goat_testcluster::runtime::RuntimeKind;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::faults::{Field, Who};
use crate::report::Report;
use crate::round::{Played, conclude, end, field};
use crate::workload::{Load, Workload};

const STARTS_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// Entries that were being written when it was killed.
const MAX_UNTOLD: u64 = 128;

/// Several cases on one cluster.
#[derive(Debug, Clone)]
pub struct Damages {
    pub seed: u64,
    pub dir: PathBuf,
    pub cases: usize,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    FlipBit,
    ZeroBlock,
    Truncate,
    Remove,
}

/// What a whole directory says that its manager has promised, and what it holds of that.
fn promised(dir: &Path) -> anyhow::Result<(Option<Promised>, Promised)> {
    let store = Offline::open(dir)?;
    store.visit_log(&mut |_, _| {})?;
    Ok(store.promised()?)
}

/// What a manager that was killed had acknowledged.
fn acknowledged(dir: &Path) -> anyhow::Result<Promised> {
    let (said, held) = promised(dir)?;
    let said = said.context("it has no PROMISED")?;
    let count = |promised: &Promised| promised.last.map_or(0, |last| last.index + 1);
    let is_near = count(&held).saturating_sub(count(&said)) <= MAX_UNTOLD;
    anyhow::ensure!(is_near && !held.is_less_than(&said), "it has promised {said:?}, and holds {held:?}");
    Ok(said)
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It ended, and said what is damaged.
    Refused,
    /// It ended because another manager knew better.
    Unwelcome,
    /// It runs, and has all that it had acknowledged.
    Unharmed,
    /// It runs, and the reader that is stricter than the store cannot tell what it has.
    Unclear,
    /// It runs with less, and nothing told it.
    Amnesia,
}

/// How often what came of what.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(String, String, Fate, bool), usize>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((file, blow, fate, found), count) in &self.0 {
            let found = if *found { "found by check" } else { "not found by check" };
            writeln!(f, "{count:4} {file:12} {blow:10} {fate:?}, {found}")?;
        }
        Ok(())
    }
}

impl Damages {
    /// Plays them. What is wrong is in the report.
    ///
    /// # Errors
    /// Where no cluster comes up, or it was interrupted.
    pub async fn run(&self, tally: &mut Tally, interrupted: &CancellationToken) -> anyhow::Result<Report> {
        let mut options = Options::new(self.dir.clone(), RuntimeKind::Process)?;
        options.workers = 0;
        options.manager_args = vec!["--snapshot-entries".into(), "600".into()];
        let check = options.binaries.join("goat-manager");
        let cluster = Cluster::up(options).await?;
        let played = tokio::select! {
            played = self.play(&cluster, &check, tally) => played,
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        conclude(&cluster, &self.dir, self.seed, true, played).await
    }

    async fn play(&self, cluster: &Cluster, program: &Path, tally: &mut Tally) -> anyhow::Result<Played> {
        let client = cluster.client()?;
        let workload = Workload::start(&client, Load::default(), self.seed);
        let mut field = field(cluster, client, workload.book.clone(), self.seed);
        let (mut played, mut outcome) = (0, Ok(()));
        while played < self.cases && outcome.is_ok() {
            outcome = case(&mut field, program, tally).await.with_context(|| format!("case {}", played + 1));
            played += 1;
        }
        Ok(end(field, workload, outcome, played).await)
    }
}

/// Kills a manager by lot.
async fn fell(field: &mut Field<'_>) -> anyhow::Result<String> {
    field.whole().await?;
    let who = if field.rng.random_bool(0.3) { Who::Leader } else { Who::Follower };
    let name = field.pick(who).await?.remove(0);
    if field.rng.random_bool(0.5) {
        // A start brings what the write-ahead log holds into tables; who never started again has none to damage.
        field.cluster.kill(&name, false).await?;
        field.collect(&name)?;
        field.cluster.start(&name).await?;
        field.whole().await?;
    }
    field.cluster.kill(&name, false).await?;
    field.collect(&name)?;
    Ok(name)
}

async fn case(field: &mut Field<'_>, program: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let name = fell(field).await?;
    let layout = field.cluster.layout();
    let dir = layout.data_dir(layout.find(&name)?);
    let before = acknowledged(&dir)?;
    let (file, blow) = hurt(&dir, &mut field.rng)?;
    field.tell(format!("{blow:?} {} of {name}", file.display()));
    let is_found = !Command::new(program).args(["check", "--data-dir"]).arg(&dir).output()?.status.success();
    let after = promised(&dir);
    let log = layout.log_path(&name);
    let told = std::fs::metadata(&log).map_or(0, |log| log.len());
    let since_us = field.book.now_us();
    field.cluster.start(&name).await?;
    let fate = match ended(field, &name).await? {
        true => {
            let said = std::fs::read(&log)?.split_off(told as usize);
            judge_words(&String::from_utf8_lossy(&said), &dir)?
        }
        false => match after {
            Err(_) => Fate::Unclear,
            Ok((_, after)) if after.is_less_than(&before) => Fate::Amnesia,
            Ok(_) => Fate::Unharmed,
        },
    };
    *tally.0.entry((kind(&file), format!("{blow:?}"), fate, is_found)).or_default() += 1;
    anyhow::ensure!(
        fate != Fate::Amnesia,
        "{name} runs with less than it had acknowledged: {blow:?} {}; it had promised {before:?}",
        file.display()
    );
    match fate {
        Fate::Refused | Fate::Unwelcome => field.replace_damaged(&name).await?,
        _ => field.whole().await?,
    }
    field.recovered(since_us).await
}

/// A file by lot, each kind as likely as the others, and what is done to it.
fn hurt(dir: &Path, rng: &mut StdRng) -> anyhow::Result<(PathBuf, Blow)> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for below in ["db", "snapshots", "."] {
        for entry in std::fs::read_dir(dir.join(below))? {
            let path = entry?.path();
            // RocksDB's own diary and locks mean nothing; keys of certificates are not the store's.
            if path.metadata()?.len() > 0 && path.is_file() && is_of_the_store(&path, dir) {
                kinds.entry(kind(&path)).or_default().push(path);
            }
        }
    }
    let names: Vec<_> = kinds.keys().cloned().collect();
    let file = names.choose(rng).and_then(|name| kinds[name].choose(rng)).context("it has no files")?.clone();
    let blow = *[Blow::FlipBit, Blow::FlipBit, Blow::ZeroBlock, Blow::Truncate, Blow::Remove]
        .choose(rng)
        .context("there are some")?;
    let mut bytes = std::fs::read(&file)?;
    let at = rng.random_range(0..bytes.len());
    match blow {
        Blow::FlipBit => bytes[at] ^= 1 << rng.random_range(0..8),
        Blow::ZeroBlock => {
            let until = (at + 512).min(bytes.len());
            bytes[at..until].fill(0);
        }
        Blow::Truncate => bytes.truncate(at),
        Blow::Remove => return std::fs::remove_file(&file).map(|()| (file, blow)).map_err(Into::into),
    }
    std::fs::write(&file, bytes)?;
    Ok((file, blow))
}

fn is_of_the_store(path: &Path, dir: &Path) -> bool {
    let kind = kind(path);
    let is_ours = kind != "IDENTITY" || path.parent() == Some(&dir.join("."));
    is_ours && ["log", "sst", "MANIFEST", "CURRENT", "IDENTITY", "PROMISED", "snapshot"].contains(&kind.as_str())
}

fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let end = path.extension().map(|end| end.to_string_lossy().into_owned());
    end.unwrap_or_else(|| name.split('-').next().unwrap_or_default().to_owned())
}

/// Whether it ended by itself; else it is a member as before.
async fn ended(field: &Field<'_>, name: &str) -> anyhow::Result<bool> {
    let deadline = Instant::now() + STARTS_WITHIN;
    loop {
        let status = field.cluster.status().await;
        if status.iter().any(|member| member.name == name && matches!(member.condition, Condition::Ended(_))) {
            return Ok(true);
        }
        let peers = field.client.peers().await?;
        let is_back = |peer: &goat_proto::v1::Peer| {
            peer.name == name && peer.reachable && peer.applied_index + 100 >= peer.last_log_index
        };
        if peers.iter().any(|peer| is_back(peer) && (peer.role == "follower" || peer.role == "leader")) {
            return Ok(false);
        }
        anyhow::ensure!(Instant::now() < deadline, "{name} neither ends nor comes back");
        tokio::time::sleep(LOOK).await;
    }
}

/// A word that says what is damaged, and where.
fn judge_words(said: &str, dir: &Path) -> anyhow::Result<Fate> {
    let line = said.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
    let names_it = line.contains(&dir.display().to_string());
    anyhow::ensure!(names_it, "it ended without a word of what is damaged: {}", said.trim());
    Ok(if line.contains("is an old copy") { Fate::Unwelcome } else { Fate::Refused })
}
