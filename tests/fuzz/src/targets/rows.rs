//! Replicated bytes, and the archive of them.

use goat_core::archive;
use goat_core::codec;
use goat_core::model::{NodeId, TaskId};
use goat_core::state::command::{Answer, Command, Outcome, Refusal};
use goat_core::state::{At, State};

use super::samples;

pub(super) fn commands() -> Vec<Vec<u8>> {
    samples::commands().iter().map(codec::encode).collect()
}

/// What is decoded is what is encoded again, and applying it twice gives the same.
pub(super) fn command(bytes: &[u8]) {
    let Ok(command) = codec::decode::<Command>("command", bytes) else { return };
    let again: Command = codec::decode("command", &codec::encode(&command)).expect("it was decoded before");
    // Numbers that are none (NaN) are not in commands, so that equality holds.
    assert_eq!(again, command);
    let mut state = filled();
    let mut other = filled();
    for _ in 0..2 {
        let at = At { index: state.applied_index() + 1, term: 1 };
        let outcome = state.apply(at, &command, &mut Vec::new());
        assert_eq!(outcome, other.apply(at, &again, &mut Vec::new()));
    }
    assert_eq!(state.hash(), other.hash());
}

/// A state with a little of everything.
pub(super) fn filled() -> State {
    let mut state = State::new();
    for (index, command) in (1..).zip(samples::commands().iter().take(8)) {
        state.apply(At { index, term: 1 }, command, &mut Vec::new());
    }
    state
}

pub(super) fn outcomes() -> Vec<Vec<u8>> {
    let stale = Outcome::Refused(Refusal::Stale { seen: 1, found: 2 });
    let invalid = Refusal::Invalid { field: "name".into(), problem: "it is empty".into() };
    let done = Outcome::Done(Answer::Node { id: NodeId::from_random(1), version: 3 });
    [done, stale, Outcome::Refused(invalid)].iter().map(codec::encode).collect()
}

pub(super) fn outcome(bytes: &[u8]) {
    if let Ok(Outcome::Refused(refusal)) = codec::decode::<Outcome>("outcome", bytes) {
        let _ = refusal.to_string();
    }
}

pub(super) fn ids() -> Vec<Vec<u8>> {
    vec![TaskId::from_random(7).to_string().into_bytes(), b"0123456789ab".to_vec()]
}

pub(super) fn id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<TaskId>() {
        assert_eq!(id.to_string(), text);
    }
}

/// Rows one after the other: length of the key, length of the value, both in two bytes, then both.
pub(super) fn row_samples() -> Vec<Vec<u8>> {
    let rows: Vec<Vec<u8>> = filled()
        .rows()
        .into_iter()
        .filter_map(|row| Some((row.key, row.value?)))
        .map(|(key, value)| {
            let mut bytes = vec![];
            bytes.extend((key.len() as u16).to_le_bytes());
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend([key, value].concat());
            bytes
        })
        .collect();
    let all = rows.concat();
    rows.into_iter().chain([all]).collect()
}

fn split(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    while bytes.len() >= 4 {
        let key = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let value = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        bytes = &bytes[4..];
        let key = key.min(bytes.len());
        let value = value.min(bytes.len() - key);
        rows.push((bytes[..key].to_vec(), bytes[key..key + value].to_vec()));
        bytes = &bytes[key + value..];
    }
    rows
}

/// Rows that make a state make it again, and it goes on from there: a manager that starts from rows that somebody else
/// wrote does not fall over.
pub(super) fn rows(bytes: &[u8]) {
    let Ok(mut state) = State::from_rows(split(bytes)) else { return };
    let written = state.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
    let again = State::from_rows(written).expect("what a state wrote makes a state");
    assert_eq!(again.hash(), state.hash());
    for command in samples::commands() {
        let at = At { index: state.applied_index().saturating_add(1), term: 1 };
        state.apply(at, &command, &mut Vec::new());
    }
}

pub(super) fn archives() -> Vec<Vec<u8>> {
    let head = archive::Head { cluster_id: "0123456789ab".into(), ..archive::Head::default() };
    let rows = filled().rows();
    let whole = archive::Head { rows: rows.len() as u64, ..head.clone() };
    let mut writer = archive::Writer::begin(&whole);
    for row in &rows {
        writer.row(&row.key, row.value.as_deref().unwrap_or_default());
    }
    writer.end();
    let mut empty = archive::Writer::begin(&head);
    empty.end();
    vec![writer.buffer, empty.buffer]
}

pub(super) fn archive(bytes: &[u8]) {
    let Ok(mut reader) = archive::Reader::begin(bytes) else { return };
    let mut rows = Vec::new();
    while let Ok(Some(row)) = reader.next_row() {
        rows.push(row);
    }
    let _ = State::from_rows(rows);
}
