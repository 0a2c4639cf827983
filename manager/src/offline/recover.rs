//! `goat-manager recover`: the one way back when a majority of managers is lost for good. One that is left goes on alone, with
//! all that it has.
//!
//! ```text
//! read, judge ─► say what is kept and what may be lost ─ --yes ─► copy aside ─► one synced batch
//! ```
//! May be cut off anywhere and repeated: before the batch nothing is changed, after it there is nothing left to do.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use goat_core::codec;
use goat_core::model::Manager;
use goat_core::state::command::{Action, Command, Outcome};
use goat_core::state::{At, State};
use goat_raft_store::{Alone, EntryId, Member, Members, Offline};

use super::aside::{Aside, copy_aside};
use super::{Replayed, replay};
use crate::clock;

/// Elections that the lost managers can have had unseen. Workers and the lost ones themselves go by the larger term.
pub(super) const TERMS_SKIPPED: u64 = 1_000_000;
/// Commands that the lost managers can have accepted unseen: what they gave out as fencing tokens is not given out again.
pub(super) const INDEXES_SKIPPED: u64 = 1_000_000_000;

/// What a recovery would do, or has done.
#[derive(Debug)]
pub struct Recovery {
    dir: PathBuf,
    cluster: String,
    own: Manager,
    lost: Vec<Manager>,
    last: EntryId,
    term: u64,
    newest_command_ms: u64,
    services: usize,
    tasks: usize,
    nodes: usize,
    /// It is a group of this manager alone already.
    pub is_done: bool,
}

/// Reads a directory and says what a recovery from it would keep. Changes nothing. Blocks.
///
/// # Errors
/// Where a manager runs on it, or it is damaged, or that manager was removed.
pub fn plan(dir: &Path) -> anyhow::Result<Recovery> {
    let report = super::check::check(dir)?;
    ensure!(
        report.is_healthy(),
        "{} is damaged, and what a group is made of must be whole; look at another manager's directory first: {}",
        dir.display(),
        report.problems.join("; ")
    );
    let store = Offline::open(dir)?;
    let id = store.identity().node_id;
    let Replayed { meta, log, state, .. } = replay(&store)?;
    let last = log.last.context("its log is empty, so there is nothing to go on with; look at another manager's")?;
    ensure!(
        meta.applied.is_none_or(|applied| applied.index <= last.index),
        "{} has just received a snapshot and has not cleared its log: run `goat-manager run` on it until it waits for the \
         others, stop it, and repeat",
        dir.display()
    );
    let own =
        state.manager(id).with_context(|| format!("its state knows no manager {id}: it has never been a member"))?;
    ensure!(
        own.is_member(),
        "manager {} (number {id}) was removed from the cluster; use the directory of one that was not",
        own.name
    );
    let lost: Vec<Manager> = state.managers().filter(|other| other.is_member() && other.id != id).cloned().collect();
    Ok(Recovery {
        dir: dir.to_path_buf(),
        cluster: state.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
        own: own.clone(),
        is_done: lost.is_empty() && is_alone(log.members.as_ref().unwrap_or(&meta.members), id),
        lost,
        last,
        term: meta.vote.map_or(0, |vote| vote.term).max(last.term),
        newest_command_ms: state.clock_ms(),
        services: state.services().len(),
        tasks: state.tasks().len(),
        nodes: state.nodes().len(),
    })
}

fn is_alone(members: &Members, id: u64) -> bool {
    members.voters == [id] && members.all.len() == 1
}

impl Recovery {
    /// Does it: copies the directory aside where there is room, then makes the group. Blocks.
    ///
    /// # Errors
    /// Where it cannot be written, or the directory is not as it was seen. Nothing is changed then.
    pub fn perform(&self, advertise: Option<String>) -> anyhow::Result<Aside> {
        let command = self.command(advertise.clone())?;
        let aside = copy_aside(&self.dir, self.last.index)?;
        let member =
            Member { name: self.own.name.clone(), address: advertise.unwrap_or_else(|| self.own.address.clone()) };
        let alone = Alone {
            last: Some(self.last),
            term: self.term + TERMS_SKIPPED,
            member,
            commands: vec![codec::encode(&command).into()],
        };
        goat_raft_store::make_alone(&self.dir, alone)?;
        Ok(aside)
    }

    /// Tried out first: a command in the log that is refused would leave the lost managers members.
    fn command(&self, address: Option<String>) -> anyhow::Result<Command> {
        let action = Action::Recover { survivor: self.own.id, address, leap: INDEXES_SKIPPED };
        let command = Command { now_ms: clock::now_ms(), request: None, action };
        let store = Offline::open(&self.dir)?;
        let mut state: State = replay(&store)?.state;
        let at = At { index: self.last.index + 2, term: self.term + TERMS_SKIPPED };
        match state.apply(at, &command, &mut Vec::new()).0 {
            Outcome::Done(_) => Ok(command),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, own, last, .. } = self;
        let newest = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.newest_command_ms);
        let newest = humantime::format_rfc3339_seconds(newest);
        writeln!(f, "cluster {cluster}, from manager {} (number {}) in {}", own.name, own.id, self.dir.display())?;
        if self.is_done {
            return writeln!(f, "it is a group of this manager alone already: start it with `goat-manager run`");
        }
        writeln!(f, "kept:    all of its log, up to index {} of term {}, of {newest}", last.index, last.term)?;
        writeln!(f, "         {} services, {} tasks, {} nodes", self.services, self.tasks, self.nodes)?;
        for lost in &self.lost {
            writeln!(f, "removed: manager {} (number {}) at {}, for good", lost.name, lost.id, lost.address)?;
        }
        writeln!(
            f,
            "may be lost: what was acknowledged after index {}, if another manager has more. Compare last_log_term, then\n\
             \x20        last_log_index of all that are left with `goat-manager check --json`, and recover the highest one only",
            last.index
        )
    }
}
