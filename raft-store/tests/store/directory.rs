//! Directories that are not to be opened, and what is said about them.

use std::fs;
use std::path::Path;

use crate::common::{Toy, options, reopen, try_open};
use goat_raft_store::{Error, Identity, exists};
use tempfile::TempDir;

fn open_as(dir: &Path, cluster_id: Option<&str>, node_id: u64) -> Result<(), Error> {
    let mut options = options(dir);
    options.identity = Identity { cluster_id: cluster_id.map(str::to_owned), node_id };
    goat_raft_store::open(options, Toy::default()).map(drop)
}

/// A directory that was used and closed.
fn used() -> TempDir {
    let dir = TempDir::new().unwrap();
    drop(try_open(dir.path()).unwrap());
    drop(reopen(dir.path()));
    dir
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_closed() {
    let dir = TempDir::new().unwrap();
    let store = try_open(dir.path()).unwrap();
    let error = try_open(dir.path()).err().expect("refused");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    reopen(dir.path());
}

#[test]
fn a_directory_with_other_things_in_it_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("holiday.jpg"), "x").unwrap();
    let error = try_open(dir.path()).err().expect("refused");
    assert!(matches!(&error, Error::NotADataDir { found, .. } if found == "holiday.jpg"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(!exists(dir.path()));
}

#[test]
fn a_data_directory_without_its_identity_is_refused() {
    let dir = used();
    assert!(exists(dir.path()));
    fs::remove_file(dir.path().join("IDENTITY")).unwrap();
    assert!(matches!(try_open(dir.path()), Err(Error::NotADataDir { .. })));
}

#[test]
fn a_damaged_identity_is_refused_with_its_path_and_what_to_do() {
    let dir = used();
    let path = dir.path().join("IDENTITY");
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in ["", "goat", &whole[..whole.len() / 2], &whole.replace("node-id: 1", "node-id: 2")] {
        fs::write(&path, damaged).unwrap();
        let error = try_open(dir.path()).err().expect("refused");
        assert!(matches!(error, Error::IdentityDamaged { .. }), "{damaged:?}: {error}");
        let message = error.to_string();
        assert!(message.contains("IDENTITY") && message.contains("restore it from a backup"), "{message}");
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(try_open(dir.path()), Err(Error::IdentityDamaged { .. })));
    fs::write(&path, whole).unwrap();
    reopen(dir.path());
}

#[test]
fn a_newer_directory_is_left_to_a_newer_build() {
    let dir = used();
    let path = dir.path().join("IDENTITY");
    let newer = fs::read_to_string(&path).unwrap().replace("format 1", "format 2");
    fs::write(&path, &newer).unwrap();
    let error = try_open(dir.path()).err().expect("refused");
    assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn the_directory_of_another_manager_or_cluster_is_refused() {
    let dir = TempDir::new().unwrap();
    open_as(dir.path(), Some("c1"), 1).unwrap();
    reopen(dir.path());
    let error = open_as(dir.path(), Some("c1"), 2).expect_err("another manager");
    assert!(matches!(error, Error::OtherNode { found: 1, wanted: 2, .. }), "{error}");
    let error = open_as(dir.path(), Some("c2"), 1).expect_err("another cluster");
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
}

#[test]
fn a_cluster_id_is_learned_once_and_kept() {
    let dir = TempDir::new().unwrap();
    let store = try_open(dir.path()).unwrap();
    assert_eq!(store.log.cluster_id(), None);
    store.log.set_cluster_id("c1").unwrap();
    store.log.set_cluster_id("c1").unwrap();
    assert!(matches!(store.log.set_cluster_id("c2"), Err(Error::OtherCluster { .. })));
    assert!(matches!(store.log.set_cluster_id("not an id"), Err(Error::ClusterId { .. })));
    drop(store);
    assert_eq!(reopen(dir.path()).log.cluster_id().as_deref(), Some("c1"));
}

#[test]
fn a_first_start_that_was_cut_off_is_begun_again() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("LOCK"), "").unwrap();
    fs::write(dir.path().join("IDENTITY.tmp"), "goat raft st").unwrap();
    try_open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_told_apart_from_other_trouble() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..100).await;
    drop(store);
    drop(reopen(dir.path()));
    let db = dir.path().join("db");
    for file in fs::read_dir(&db).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST-") {
            let len = fs::metadata(&path).unwrap().len();
            fs::write(&path, vec![0x5a; usize::try_from(len).unwrap()]).unwrap();
        }
    }
    let error = try_open(dir.path()).err().expect("refused");
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == db), "{error}");
    assert!(error.to_string().contains("move the data directory away"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = try_open(&file.path().join("data")).err().expect("refused");
    assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
}
