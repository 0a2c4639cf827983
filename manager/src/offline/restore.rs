//! `goat-manager init --from-snapshot`: the cluster is made again out of a saved file, after all managers are lost with
//! their data. Its workers come back by themselves: its id, its certificates and their terms are what they know.
//!
//! ```text
//! file read and checked ─► nobody runs it any more? ─► directory marked ─► one synced batch ─► rows put in place
//!                                                                             └─► credentials; with them it is complete
//! ```
//! Cut off anywhere, it is repeated.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::future::join_all;
use goat_core::archive::{self, Head, Loaded};
use goat_core::codec;
use goat_core::model::{ClusterId, Manager};
use goat_core::state::command::{Action, Command, Outcome};
use goat_core::state::{At, State};
use goat_raft_store::{EntryId, Member, Restoring};
use goat_tls::{Role, Transport};

use super::check::Report;
use super::recover::{INDEXES_SKIPPED, TERMS_SKIPPED};
use crate::clock;
use crate::found::write_credentials;
use crate::machine::{Machine, View};
use crate::newcomer::Newcomer;
use crate::raft::Seated;
use crate::raft::peers::Peers;
use crate::raft::seat::ask;
use crate::security::{self, issue::issue};

/// Two clusters that are made of one file by mistake shall not have managers of one number.
const NUMBERS_DRAWN_FROM: u64 = 1_000;
const READ_BYTES: usize = 256 << 10;
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What was made.
#[derive(Debug)]
pub struct Restored {
    file: PathBuf,
    head: Head,
    own: u64,
    name: String,
    cluster: ClusterId,
    removed: Vec<Manager>,
}

/// Makes a cluster of one manager out of the file. `client`: where the first user's credentials go.
///
/// # Errors
/// Where the file or the directory cannot be used. Nothing is changed by a file that cannot.
pub async fn restore(newcomer: &Newcomer, file: &Path, client: &Path) -> anyhow::Result<Restored> {
    let (path, is_plaintext) = (file.to_path_buf(), newcomer.is_plaintext);
    let loaded = tokio::task::spawn_blocking(move || load(&path, is_plaintext)).await??;
    let cluster = loaded.state.cluster_id().context("its state has no cluster's id")?;
    let own = seat_in(&newcomer.data_dir, cluster, &loaded.state)?;
    refuse_alive(&loaded.state, cluster).await?;
    let removed = loaded.state.managers().filter(|manager| manager.is_member()).cloned().collect();
    let (state, head) = (loaded.state, loaded.head);
    let (dir, member) = (newcomer.data_dir.clone(), newcomer.clone());
    let (rows, applied) = (loaded.rows, EntryId { term: head.term, index: head.index });
    let state = tokio::task::spawn_blocking(move || -> anyhow::Result<State> {
        own.claim_where_empty(&dir)?;
        if !goat_raft_store::has_log(&dir)? {
            fill(&dir, &rows, applied, &own.seated, &member, &state)?;
        } else if member.is_plaintext {
            // Without credentials that come last, this is all that tells.
            return Err(taken(&dir, own.seated));
        }
        finish(&dir, own.seated)?;
        Ok(state)
    });
    let state = state.await??;
    if let Some(security) = state.security() {
        write_credentials(security, own.seated, &newcomer.data_dir, client)?;
    }
    let (name, file) = (newcomer.name.clone(), file.to_path_buf());
    Ok(Restored { file, head, own: own.seated.id, name, cluster, removed })
}

fn load(path: &Path, is_plaintext: bool) -> anyhow::Result<Loaded> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let loaded = archive::load(BufReader::with_capacity(READ_BYTES, file)).with_context(|| shown.to_string())?;
    match (loaded.state.security(), is_plaintext) {
        (None, false) => bail!("{shown} is of a cluster without encryption: say --plaintext here as well"),
        (Some(_), true) => bail!("{shown} is of an encrypted cluster: leave out --plaintext"),
        _ => Ok(loaded),
    }
}

/// Who this manager is to be, or is already in a directory where this was begun.
#[derive(Debug, Clone, Copy)]
struct Seat {
    seated: Seated,
    is_claimed: bool,
}

impl Seat {
    fn claim_where_empty(self, dir: &Path) -> anyhow::Result<()> {
        if !self.is_claimed {
            self.seated.claim(dir)?;
        }
        Ok(())
    }
}

fn seat_in(dir: &Path, cluster: ClusterId, state: &State) -> anyhow::Result<Seat> {
    let first_free = state.first_free_manager();
    let Some(seated) = Seated::of(dir)? else {
        goat_raft_store::check_empty(dir)?;
        let id = first_free.saturating_add(clock::random() % NUMBERS_DRAWN_FROM);
        return Ok(Seat { seated: Seated { id, cluster }, is_claimed: false });
    };
    let is_begun = seated.cluster == cluster && seated.id >= first_free && !security::path(dir).exists();
    if is_begun { Ok(Seat { seated, is_claimed: true }) } else { Err(taken(dir, seated)) }
}

fn taken(dir: &Path, Seated { id, cluster }: Seated) -> anyhow::Error {
    anyhow!(
        "{} belongs to manager number {id} of cluster {cluster} already: start it with `goat-manager run`, or give an empty \
         directory",
        dir.display()
    )
}

/// While one of the cluster's managers runs, there is a better way, and two clusters of one name would fight for workers.
async fn refuse_alive(state: &State, cluster: ClusterId) -> anyhow::Result<()> {
    let transport = match state.security() {
        None => Transport::plaintext(),
        // As a manager that has no number yet: how far they are is for managers only.
        Some(security) => Transport::new(issue(security, cluster, Role::Manager, "0")?)?,
    };
    let peers = Peers::new(transport, None);
    let members: Vec<&Manager> = state.managers().filter(|manager| manager.is_member()).collect();
    let replies = join_all(members.iter().map(|manager| ask(&peers, 0, &manager.address))).await;
    let own = cluster.to_string();
    let alive =
        members.iter().zip(replies).find(|(_, reply)| reply.as_ref().is_some_and(|reply| reply.cluster_id == own));
    if let Some((manager, _)) = alive {
        bail!(
            "a manager of cluster {own} runs at {}: this is for when none is left. Bring services back with `goatctl operator \
             snapshot restore`; where a majority is lost for good, see `goat-manager recover`",
            manager.address
        );
    }
    Ok(())
}

fn fill(
    dir: &Path,
    rows: &[archive::Row],
    applied: EntryId,
    seated: &Seated,
    newcomer: &Newcomer,
    state: &State,
) -> anyhow::Result<()> {
    let now_ms = clock::now_ms();
    // As time goes, so that one that is made of the same file later, when this one is lost as well, is above it.
    let term = applied.term.saturating_add(TERMS_SKIPPED).max(now_ms);
    let leap = now_ms.saturating_mul(1_000).saturating_sub(state.newest_version()).max(INDEXES_SKIPPED);
    let (name, address) = (newcomer.name.clone(), newcomer.address.clone());
    let action = Action::Refound { id: seated.id, name: name.clone(), address: address.clone(), leap };
    let command = Command { now_ms, request: None, action };
    // Tried out first: in the log it could not be taken back.
    let mut trial = State::from_rows(rows.iter().map(|(key, value)| (key, value)))?;
    if let (Outcome::Refused(refusal), _) =
        trial.apply(At { index: applied.index + 1, term }, &command, &mut Vec::new())
    {
        return Err(refusal.into());
    }
    let restoring = Restoring {
        last: applied,
        term,
        member: Member { name, address },
        commands: vec![codec::encode(&command).into()],
    };
    goat_raft_store::restore(dir, rows.iter().map(|(key, value)| (&**key, &**value)), restoring)?;
    Ok(())
}

/// Puts the rows in place, as the first start would, and reads everything back.
fn finish(dir: &Path, seated: Seated) -> anyhow::Result<()> {
    let options = goat_raft_store::Options {
        dir: dir.to_path_buf(),
        identity: seated.identity(),
        ..goat_raft_store::Options::default()
    };
    drop(goat_raft_store::open(options, Machine::new(View::new()))?);
    let report = checked(dir)?;
    ensure!(report.is_healthy(), "{} is not as it must be: {}", dir.display(), report.problems.join("; "));
    Ok(())
}

/// The store's own threads may hold it for a moment longer.
fn checked(dir: &Path) -> anyhow::Result<Report> {
    let deadline = Instant::now() + CLOSED_WITHIN;
    loop {
        match super::check::check(dir) {
            Err(goat_raft_store::Error::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            checked => return Ok(checked?),
        }
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, own, name, cluster, .. } = self;
        let made = UNIX_EPOCH + Duration::from_millis(head.made_at_ms);
        let made = humantime::format_rfc3339_seconds(made);
        writeln!(f, "cluster {cluster} made again from {}: manager {name}, number {own}", self.file.display())?;
        writeln!(f, "as of:        {made}, index {} of term {}, by manager {}", head.index, head.term, head.made_by)?;
        writeln!(f, "kept:         {} services, {} tasks, {} nodes;", head.services, head.tasks, head.nodes)?;
        writeln!(f, "              the cluster's id, certificate authorities, join tokens, answers to requests")?;
        for old in &self.removed {
            writeln!(f, "removed:      manager {} (number {}) at {}, for good", old.name, old.id, old.address)?;
        }
        write!(
            f,
            "lost:         whatever was accepted later. What workers run of it goes on where a service wants it, else it is\n\
             \x20             stopped; nothing is started before every worker has said what it runs"
        )
    }
}
