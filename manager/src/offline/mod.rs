//! What is done to a data directory while no manager runs on it.
//!
//! ```text
//! check    reads all of it, says what is there and what is damaged
//! recover  makes a group of the one manager that is left
//! restore  makes a group out of a saved snapshot, where none is left
//! ```

pub mod aside;
pub mod check;
pub mod recover;
pub mod restore;

use goat_core::codec;
use goat_core::state::command::Command;
use goat_core::state::{At, State};
use goat_raft_store::{LogSeen, Meta, Offline};

/// The state of a directory: what is applied, and what the log's end would make of it.
#[derive(Debug)]
pub struct Replayed {
    pub meta: Meta,
    pub log: LogSeen,
    /// With every entry of the log applied, also those that no majority may have.
    pub state: State,
    /// How many entries the rows did not have.
    pub replayed: u64,
}

/// Reads rows and log. Blocks.
///
/// # Errors
/// What cannot be read, or does not make a state.
pub fn replay(store: &Offline) -> anyhow::Result<Replayed> {
    let meta = store.meta()?;
    let mut failed = None;
    let rows = store.rows().map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let state = State::from_rows(rows);
    // A read that failed is the cause of whatever is then wrong with the rows.
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut state = state?;
    let applied = meta.applied.map_or(0, |id| id.index + 1);
    let (mut replayed, mut unreadable) = (0, None);
    let log = store.visit_log(&mut |id, command| {
        let Some(command) = command.filter(|_| unreadable.is_none()) else { return };
        match codec::decode::<Command>("command", command) {
            Ok(command) if id.index >= applied => {
                state.apply(At { index: id.index, term: id.term }, &command, &mut Vec::new());
                replayed += 1;
            }
            Ok(_) => {}
            Err(error) => unreadable = Some(anyhow::Error::new(error).context(format!("log entry {id}"))),
        }
    })?;
    unreadable.map_or(Ok(()), Err)?;
    Ok(Replayed { meta, log, state, replayed })
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
