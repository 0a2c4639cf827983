//! SIGKILL in mid-write, again and again on one directory: whatever was acknowledged before is there after.
//!
//! The test runs itself as a child that writes and says on its output what was acknowledged. Set `GOAT_SEED` to replay.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Entry, Store, put, reopen};
use goat_raft_store::TypeConfig;
use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

const TEST: &str = "crash::nothing_acknowledged_is_missing_after_a_kill";
const CHILD_DIR: &str = "GOAT_CRASH_CHILD_DIR";
const SEED: &str = "GOAT_SEED";
const ROUNDS: usize = 16;
const KEYS: u64 = 50;

#[test]
fn nothing_acknowledged_is_missing_after_a_kill() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        return child(Path::new(&dir));
    }
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("{SEED}={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let lines_before_kill = random.random_range(20..600);
        run_and_kill(dir.path(), random.random(), lines_before_kill, &mut told);
        check(dir.path(), &mut told);
        println!("round {round}: {told}");
    }
    assert!(told.acked > 1_000, "the child gets something done: {told}");
}

/// What the child has said.
#[derive(Debug, Default)]
struct Told {
    /// Terms of entries that have to be there.
    entries: BTreeMap<u64, u64>,
    vote: u64,
    purged: Option<u64>,
    applied: Option<u64>,
    acked: u64,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.entries.last_key_value().map_or(0, |(index, _)| *index);
        write!(f, "{} acknowledged, last {last}, applied {:?}, vote {}", self.acked, self.applied, self.vote)
    }
}

impl Told {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let what = words.next();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        match (what, numbers.as_slice()) {
            (Some("appended"), [term, first, end]) => {
                self.entries.extend((*first..*end).map(|index| (index, *term)));
                self.acked += end - first;
            }
            // Said before it is done: from then on they may be there or not.
            (Some("truncating"), [from]) => drop(self.entries.split_off(from)),
            (Some("purging"), [upto]) => {
                self.entries = self.entries.split_off(&(upto + 1));
                self.purged = Some(*upto);
            }
            (Some("voted"), [term]) => self.vote = *term,
            (Some("applied"), [index]) => self.applied = Some(*index),
            _ => {} // the test harness speaks too
        }
    }
}

fn run_and_kill(dir: &Path, seed: u64, lines_before_kill: usize, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = 0;
    let mut line = String::new();
    // After the kill the pipe still holds what was said before it.
    while output.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            told.hear(line.trim_end());
        }
        line.clear();
        lines += 1;
        if lines == lines_before_kill {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(lines >= lines_before_kill, "the child ended by itself: {status}");
}

#[tokio::main(flavor = "current_thread")]
async fn check(dir: &Path, told: &mut Told) {
    let mut store = reopen(dir);
    let ends = store.log.ends();
    let found = store.log.try_get_log_entries(0..).await.unwrap();
    let found: BTreeMap<u64, &Entry> = found.iter().map(|entry| (entry.log_id.index(), entry)).collect();
    for (index, term) in &told.entries {
        let entry = found.get(index).unwrap_or_else(|| panic!("entry {index} of term {term} is missing: {ends:?}"));
        assert_eq!(**entry, command(*term, *index));
    }
    let vote = store.log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
    assert!(vote >= told.vote, "vote {vote} after {} was acknowledged", told.vote);
    // Rows are not synced, but a kill takes nothing that was handed to the kernel.
    let applied = store.machine.applied_state().await.unwrap().0.map(|id| id.index());
    assert!(applied >= told.applied, "applied {applied:?} after {:?}", told.applied);
    told.applied = applied;
    let rows = store.toy.rows();
    for key in 0..KEYS {
        let newest = applied.and_then(|applied| (0..=applied).rev().take(50).find(|index| index % KEYS == key));
        let row = rows.get(format!("key-{key}").as_bytes()).map(|row| String::from_utf8_lossy(row).into_owned());
        assert_eq!(row.and_then(|row| row.split('.').next().and_then(|index| index.parse().ok())), newest);
    }
}

fn command(term: u64, index: u64) -> Entry {
    let filler = "x".repeat((index * 37 % 2_000) as usize);
    put(term, index, format!("key-{}={index}.{term}.{filler}", index % KEYS))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone wants no more.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes until it is killed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn child(dir: &Path) {
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut store = reopen(dir);
    // Acknowledgements come in order, so one teller awaits them one by one while more appends are under way.
    let (tell, mut to_tell) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(tell) = to_tell.recv().await {
            match tell {
                Tell::When(flushed, line) => {
                    flushed.await.unwrap().unwrap();
                    say(&line);
                }
                Tell::Settled(settled) => settled.send(()).unwrap(),
            }
        }
    });
    let vote = store.log.read_vote().await.unwrap();
    let mut term = vote.map_or(0, |vote| vote.leader_id.term) + 1;
    store.log.save_vote(&VoteOf::<TypeConfig>::new(term, 1)).await.unwrap();
    say(&format!("voted {term}"));
    loop {
        let next = store.log.ends().last.map_or(0, |last| last.index + 1);
        let end = next + random.random_range(1..12);
        let entries: Vec<Entry> = (next..end).map(|index| command(term, index)).collect();
        let (done, flushed) = TypeConfig::oneshot();
        store.log.append(entries, IOFlushed::signal(done)).await.unwrap();
        tell.send(Tell::When(flushed, format!("appended {term} {next} {end}"))).await.ok().unwrap();
        match random.random_range(0..40) {
            0 => {
                term += 1;
                store.log.save_vote(&VoteOf::<TypeConfig>::new(term, 1)).await.unwrap();
                say(&format!("voted {term}"));
            }
            1 => truncate(&mut store, &tell).await,
            2..5 => apply_some(&mut store).await,
            5 => purge(&mut store, &tell).await,
            _ => {}
        }
    }
}

/// What the teller is to say, in this order.
enum Tell {
    When(oneshot::Receiver<std::io::Result<()>>, String),
    /// Answered once everything before it is said.
    Settled(oneshot::Sender<()>),
}

/// Waits until everything so far is acknowledged and said, so that it is not said after what comes next.
async fn settle(tell: &mpsc::Sender<Tell>) {
    let (done, settled) = oneshot::channel();
    tell.send(Tell::Settled(done)).await.ok().unwrap();
    settled.await.unwrap();
}

/// Takes back what is not applied.
async fn truncate(store: &mut Store, tell: &mpsc::Sender<Tell>) {
    settle(tell).await;
    let Some(applied) = store.machine.applied_state().await.unwrap().0 else {
        return;
    };
    say(&format!("truncating {}", applied.index() + 1));
    store.log.truncate_after(Some(applied)).await.unwrap();
}

async fn apply_some(store: &mut Store) {
    let from = store.machine.applied_state().await.unwrap().0.map_or(0, |id| id.index() + 1);
    let entries = store.log.try_get_log_entries(from..from + 40).await.unwrap();
    let Some(last) = entries.last().map(|entry| entry.log_id.index()) else {
        return;
    };
    store.apply(entries).await;
    say(&format!("applied {last}"));
}

async fn purge(store: &mut Store, tell: &mpsc::Sender<Tell>) {
    settle(tell).await;
    let Some(applied) = store.machine.applied_state().await.unwrap().0 else {
        return;
    };
    let Some(upto) = applied.index().checked_sub(30) else {
        return;
    };
    let Some(entry) = store.log.try_get_log_entries(upto..=upto).await.unwrap().pop() else {
        return;
    };
    say(&format!("purging {upto}"));
    store.log.purge(entry.log_id).await.unwrap();
}
