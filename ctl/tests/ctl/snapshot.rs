//! `goatctl operator snapshot`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use goat_core::archive::{Counts, Head, Writer};
use goat_core::model::{ClusterId, Mode, ServiceId, ServiceSpec};
use goat_core::state::command::{Action, Command};
use goat_core::state::{At, State};
use goat_proto::v1::{self, SnapshotPiece};
use tempfile::TempDir;

use crate::fake::World;
use crate::run::goatctl;
use crate::server::Manager;

pub fn cluster() -> String {
    ClusterId::from_random(7).to_string()
}

/// A file of a cluster that has just been made.
fn file() -> Vec<u8> {
    file_with(&[])
}

/// The same, with services.
pub fn file_with(services: &[(u64, &str, u32)]) -> Vec<u8> {
    file_with_large(services, 0)
}

/// The same, each with so many bytes in its environment.
pub fn file_with_large(services: &[(u64, &str, u32)], bytes: usize) -> Vec<u8> {
    let mut state = State::new();
    let service = |(number, name, replicas): &(u64, &str, u32)| {
        let mode = Mode::Replicated { replicas: *replicas };
        let env = if bytes > 0 { [("A".to_owned(), "a".repeat(bytes))].into() } else { Default::default() };
        let spec =
            ServiceSpec { name: (*name).to_owned(), image: "echo:1".into(), mode, env, ..ServiceSpec::default() };
        // As the wire has it where it says nothing.
        let spec = ServiceSpec::try_from(v1::ServiceSpec::from(&spec)).expect("it is sound");
        Action::CreateService { id: ServiceId::from_random(*number), spec: Box::new(spec) }
    };
    let init = Action::InitCluster { id: ClusterId::from_random(7) };
    for (index, action) in (1..).zip(std::iter::once(init).chain(services.iter().map(service))) {
        state.apply(At { index, term: 1 }, &Command { now_ms: 1, request: None, action }, &mut Vec::new());
    }
    let rows = state.rows();
    let mut counts = Counts::default();
    rows.iter().for_each(|row| counts.add(&row.key, row.value.as_deref().unwrap_or_default()));
    let head = Head { cluster_id: cluster(), index: 1, term: 1, rows: counts.rows, ..Head::default() };
    let mut writer = Writer::begin(&head);
    for row in rows {
        writer.row(&row.key, &row.value.expect("no row is deleted here"));
    }
    writer.end();
    writer.buffer
}

fn world(bytes: &[u8]) -> Arc<World> {
    let world = World::new();
    let piece = |data: &[u8]| SnapshotPiece { data: data.to_vec().into(), rows_done: 1, rows: 1 };
    world.change(|state| state.pieces = bytes.chunks(7).map(piece).collect());
    world
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("it is there")
        .map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_saved_for_its_owner_only_and_another_is_not_overwritten() {
    let (dir, bytes) = (TempDir::new().expect("there is room"), file());
    let manager = Manager::start(&world(&bytes));
    let path = dir.path().join("state.goat");
    let save = format!("operator snapshot save {}", path.display());
    let ended = goatctl(&manager.address, &save).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(fs::read(&path).expect("it was saved"), bytes);
    assert_eq!(fs::metadata(&path).expect("it was saved").permissions().mode() & 0o777, 0o600);
    let ended = goatctl(&manager.address, &save).await;
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("is there already") && ended.stderr.contains("give another name"), "{ended:?}");
    assert_eq!(names(dir.path()), ["state.goat"]);
    let ended = goatctl("127.0.0.1:1", &format!("operator snapshot inspect {} -o json", path.display())).await;
    assert_eq!((&ended.json()["cluster_id"], &ended.json()["index"]), (&cluster().into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stream_that_breaks_or_is_not_whole_nothing_is_left() {
    let (dir, bytes) = (TempDir::new().expect("there is room"), file());
    let save = format!("operator snapshot save {}", dir.path().join("state.goat").display());
    let broken = world(&bytes);
    broken.change(|state| state.breaks = true);
    let ended = goatctl(&Manager::start(&broken).address, &save).await;
    assert_eq!(ended.code, 5);
    assert!(ended.stderr.contains("the connection broke in the middle"), "{ended:?}");
    let ended = goatctl(&Manager::start(&world(&bytes[..bytes.len() - 3])).address, &save).await;
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("it ends too early"), "{ended:?}");
    assert!(names(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_says_why() {
    let (dir, bytes) = (TempDir::new().expect("there is room"), file());
    let path = dir.path().join("state.goat");
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let newer = [&bytes[..8], &9_u32.to_le_bytes()[..], &bytes[12..]].concat();
    let cases = [
        (bytes[..bytes.len() / 2].to_vec(), "it was cut short on its way"),
        (flipped(bytes.len() - 20), "it is damaged"),
        (b"name = \"web\"".to_vec(), "it is no snapshot of a cluster"),
        (newer, "a newer version wrote it"),
    ];
    for (bytes, why) in cases {
        fs::write(&path, bytes).expect("there is room");
        let ended = goatctl("127.0.0.1:1", &format!("operator snapshot inspect {}", path.display())).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(why), "{why}: {ended:?}");
    }
}
