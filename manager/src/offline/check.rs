//! `goat-manager check`: reads a store to the last byte and says what it found. Changes nothing.

use std::fmt;
use std::path::Path;

use goat_core::check::check_state;
use goat_raft_store::{EntryId, Error, Member, Offline, SnapshotSeen};
use serde::Serialize;

use super::{Replayed, replay, size};

const ANEW: &str = "move the directory away and let this manager join the cluster anew: its data is on the others";

/// What a directory holds, as far as it can be read.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub data_dir: String,
    pub manager_id: u64,
    /// None where it never heard of one.
    pub cluster_id: Option<String>,
    /// None where log or rows cannot be read.
    pub store: Option<Store>,
    pub snapshots: Vec<Snapshot>,
    /// What is damaged, and what to do about it.
    pub problems: Vec<String>,
}

/// Log and state.
#[derive(Debug, Clone, Serialize)]
pub struct Store {
    pub term: u64,
    /// Whom it voted for in that term, or whom it followed.
    pub voted_for: Option<u64>,
    pub first_log_index: Option<u64>,
    pub last_log_index: u64,
    pub last_log_term: u64,
    pub log_entries: u64,
    pub committed_index: Option<u64>,
    pub applied_index: Option<u64>,
    /// The state's clock (Unix ms): when the newest command was made.
    pub newest_command_ms: u64,
    /// In force, as of the end of the log.
    pub members: Vec<MemberSeen>,
    /// The counts are as of the end of the log.
    pub services: usize,
    pub tasks: usize,
    pub nodes: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberSeen {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub is_voter: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    pub file: String,
    pub index: Option<u64>,
    pub rows: Option<u64>,
    pub size_bytes: Option<u64>,
    pub is_whole: bool,
}

/// Reads everything. Blocks.
///
/// # Errors
/// Where there is nothing to look at: no data directory, or a manager runs on it. Damage is in the report.
pub fn check(dir: &Path) -> Result<Report, Error> {
    let opened = Offline::open(dir);
    let identity = match &opened {
        Ok(store) => store.identity().clone(),
        Err(Error::Corrupt { .. } | Error::Database { .. }) => {
            goat_raft_store::identity(dir)?.ok_or_else(|| Error::NoDataDir { dir: dir.to_path_buf() })?
        }
        Err(_) => return Err(opened.expect_err("it has just been looked at")),
    };
    let mut report = Report {
        data_dir: dir.display().to_string(),
        manager_id: identity.node_id,
        cluster_id: identity.cluster_id,
        store: None,
        snapshots: Vec::new(),
        problems: Vec::new(),
    };
    match opened {
        Ok(store) => report.look(&store)?,
        Err(error) => report.problems.push(error.to_string()),
    }
    Ok(report)
}

impl Report {
    fn look(&mut self, store: &Offline) -> Result<(), Error> {
        match replay(store) {
            Ok(replayed) => {
                self.judge(&replayed);
                self.store = Some(Store::of(&replayed));
            }
            Err(error) => self.problems.push(format!("{error:#}")),
        }
        if let (Some(promised), held) = store.promised()?
            && held.is_less_than(&promised)
        {
            let shown = |last: Option<EntryId>| last.map_or_else(|| "nothing".into(), |last| format!("up to {last}"));
            self.problems.push(format!(
                "the database holds {}, and this manager had acknowledged {}: {ANEW}",
                shown(held.last),
                shown(promised.last)
            ));
        }
        for (file, seen) in store.snapshots()? {
            if let Err(error) = &seen {
                self.problems.push(format!(
                    "{error}. Nothing is lost by it while log and rows are whole: remove the file, a new one is made when \
                     it is needed; and look at the disk"
                ));
            }
            self.snapshots.push(Snapshot::of(file, seen.ok()));
        }
        Ok(())
    }

    /// What can be read and cannot be.
    fn judge(&mut self, replayed: &Replayed) {
        let Replayed { meta, log, state, .. } = replayed;
        let last = log.last.map_or(0, |id| id.index);
        if let Some(committed) = meta.committed.filter(|committed| committed.index > last) {
            self.problems.push(format!("the log ends at {last} and was committed up to {}: {ANEW}", committed.index));
        }
        if let Some(vote) = meta.vote.filter(|vote| log.last.is_some_and(|last| last.term > vote.term)) {
            self.problems.push(format!("the log has entries of terms above {}, the vote's: {ANEW}", vote.term));
        }
        let cluster = state.cluster_id().map(|id| id.to_string());
        if cluster.is_some() && self.cluster_id.is_some() && cluster != self.cluster_id {
            let cluster = cluster.unwrap_or_default();
            self.problems
                .push(format!("the state is of cluster {cluster}, the directory is marked for another: {ANEW}"));
        }
        let violations = check_state(state);
        self.problems.extend(violations.iter().map(|violation| {
            format!("the state contradicts itself: {violation}. Keep a copy of the directory and report this")
        }));
        if let Some(name) = &meta.installing {
            self.problems.push(format!(
                "the snapshot {name} is half in place: nothing is damaged, and the next `goat-manager run` finishes it"
            ));
        }
    }

    /// Whether all of it is as it must be.
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Store {
    fn of(replayed: &Replayed) -> Self {
        let Replayed { meta, log, state, .. } = replayed;
        let members = log.members.as_ref().unwrap_or(&meta.members);
        let seen = |(id, member): &(u64, Member)| MemberSeen {
            id: *id,
            name: member.name.clone(),
            address: member.address.clone(),
            is_voter: members.voters.contains(id),
        };
        Self {
            term: meta.vote.map_or(0, |vote| vote.term),
            voted_for: meta.vote.map(|vote| vote.to),
            first_log_index: log.first.map(|id| id.index),
            last_log_index: log.last.map_or(0, |id| id.index),
            last_log_term: log.last.map_or(0, |id| id.term),
            log_entries: log.entries,
            committed_index: meta.committed.map(|id| id.index),
            applied_index: meta.applied.map(|id: EntryId| id.index),
            newest_command_ms: state.clock_ms(),
            members: members.all.iter().map(seen).collect(),
            services: state.services().len(),
            tasks: state.tasks().len(),
            nodes: state.nodes().len(),
        }
    }
}

impl Snapshot {
    fn of(file: String, seen: Option<SnapshotSeen>) -> Self {
        Self {
            file,
            index: seen.as_ref().and_then(|seen| seen.last).map(|id| id.index),
            rows: seen.as_ref().map(|seen| seen.rows),
            size_bytes: seen.as_ref().map(|seen| seen.len_bytes),
            is_whole: seen.is_some(),
        }
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.cluster_id.as_deref().unwrap_or("(not known yet)");
        writeln!(f, "directory  {}", self.data_dir)?;
        writeln!(f, "cluster    {cluster}\nmanager    {}", self.manager_id)?;
        if let Some(store) = &self.store {
            write!(f, "{store}")?;
        }
        for snapshot in &self.snapshots {
            match snapshot.size_bytes {
                Some(bytes) => {
                    let rows = shown(snapshot.rows);
                    writeln!(f, "snapshot   {}: whole, {rows} rows, {}", snapshot.file, size(bytes))?;
                }
                None => writeln!(f, "snapshot   {}: DAMAGED", snapshot.file)?,
            }
        }
        for problem in &self.problems {
            writeln!(f, "PROBLEM    {problem}")?;
        }
        if self.is_healthy() { writeln!(f, "everything was read, and nothing is damaged") } else { Ok(()) }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vote = self.voted_for.map_or_else(|| "none".into(), |id| format!("for manager {id}"));
        writeln!(f, "term       {}, vote {vote}", self.term)?;
        let Self { last_log_index, last_log_term, log_entries, .. } = self;
        let first = shown(self.first_log_index);
        writeln!(f, "log        {first} to {last_log_index} (term {last_log_term}), {log_entries} entries")?;
        let committed = shown(self.committed_index);
        writeln!(f, "applied    {}, known to be committed: {committed}", shown(self.applied_index))?;
        let newest = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.newest_command_ms);
        writeln!(f, "newest     {}", humantime::format_rfc3339_seconds(newest))?;
        for member in &self.members {
            let role = if member.is_voter { "voter" } else { "learner" };
            writeln!(f, "member     {} {} at {}, {role}", member.id, member.name, member.address)?;
        }
        writeln!(f, "services   {}\ntasks      {}\nnodes      {}", self.services, self.tasks, self.nodes)
    }
}
