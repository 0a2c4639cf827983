//! The state as a file (`goat_core::archive`), from a view of one moment: applying goes on meanwhile.

mod kept;
mod name;
pub mod schedule;

use goat_core::archive::{Counts, Head, Writer};
use goat_raft_store::Error;

use crate::clock;
use crate::raft::Group;

/// A file comes in pieces of about so much; well below a message's limit.
const PIECE_BYTES: usize = 256 << 10;

/// A part of the file, and how far it is with it.
#[derive(Debug)]
pub struct Piece {
    pub data: Vec<u8>,
    pub rows_done: u64,
    pub rows: u64,
}

/// Gives out the file in pieces, until `emit` returns false. Blocks.
///
/// # Errors
/// Where the rows cannot be read. What was given out then is no whole file.
pub fn write(group: &Group, emit: &mut dyn FnMut(Piece) -> bool) -> Result<Head, Error> {
    let (cluster_id, made_by) = (group.cluster().to_string(), group.name());
    group.with_rows(|view| {
        let mut counts = Counts::default();
        for row in view.rows() {
            let (key, value) = row?;
            counts.add(&key, &value);
        }
        let applied = view.applied()?;
        let head = Head {
            cluster_id,
            term: applied.map_or(0, |id| id.term),
            index: applied.map_or(0, |id| id.index),
            made_at_ms: clock::now_ms(),
            program_version: env!("CARGO_PKG_VERSION").into(),
            made_by,
            rows: counts.rows,
            services: counts.services,
            tasks: counts.tasks,
            nodes: counts.nodes,
            newest_version: counts.newest_version,
        };
        let mut writer = Writer::begin(&head);
        let mut rows_done = 0;
        for row in view.rows() {
            let (key, value) = row?;
            writer.row(&key, &value);
            rows_done += 1;
            if writer.buffer.len() >= PIECE_BYTES {
                let data = std::mem::take(&mut writer.buffer);
                if !emit(Piece { data, rows_done, rows: counts.rows }) {
                    return Ok(head);
                }
            }
        }
        writer.end();
        emit(Piece { data: std::mem::take(&mut writer.buffer), rows_done, rows: counts.rows });
        Ok(head)
    })
}
