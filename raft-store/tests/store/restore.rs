//! A group of one is made out of saved rows: as if it had received a snapshot, and then the commands.

use crate::common::reopen;
use goat_raft_store::{EntryId, Error, Identity, Member, Offline, Restoring, claim, has_log, restore};
use tempfile::TempDir;

const ROWS: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")];

fn restoring() -> Restoring {
    Restoring {
        last: EntryId { term: 3, index: 90 },
        term: 1_003,
        member: Member { name: "m1".into(), address: "new:1".into() },
        commands: vec![b"restored=yes".as_slice().into()],
    }
}

fn claimed() -> TempDir {
    let dir = TempDir::new().unwrap();
    claim(dir.path(), &Identity { cluster_id: None, node_id: 1 }).unwrap();
    dir
}

#[tokio::test]
async fn saved_rows_become_a_store_that_goes_on_behind_them() {
    let dir = claimed();
    assert!(!has_log(dir.path()).unwrap());
    let end = restore(dir.path(), ROWS.into_iter(), restoring()).unwrap();
    assert_eq!(end, EntryId { term: 1_003, index: 91 });
    assert!(has_log(dir.path()).unwrap());
    let twice = restore(dir.path(), ROWS.into_iter(), restoring());
    assert!(matches!(twice, Err(Error::Moved { .. })), "once is enough");

    // The first start puts the rows in place.
    let store = reopen(dir.path());
    let rows: Vec<_> = store.toy.rows().into_iter().collect();
    let expected: Vec<(Vec<u8>, Vec<u8>)> = ROWS.map(|(key, value)| (key.to_vec(), value.to_vec())).into();
    assert_eq!(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Vec<_>>(), expected);
    assert_eq!(store.machine.applied(), Some(EntryId { term: 3, index: 90 }));
    drop(store);
    drop(reopen(dir.path()));

    let offline = Offline::open(dir.path()).unwrap();
    let meta = offline.meta().unwrap();
    assert_eq!((meta.installing, meta.purged.map(|id| id.index)), (None, Some(90)));
    assert_eq!((meta.vote.map(|vote| vote.term), meta.committed), (Some(1_003), Some(end)));
    let mut commands = Vec::new();
    let log = offline.visit_log(&mut |_, command| commands.extend(command.map(<[u8]>::to_vec))).unwrap();
    assert_eq!((commands, log.first, log.last), (vec![b"restored=yes".to_vec()], Some(end), Some(end)));
    assert_eq!((meta.members.voters, meta.members.all.len()), (vec![1], 1));
    assert!(offline.snapshots().unwrap().iter().all(|(_, seen)| seen.as_ref().is_ok_and(|seen| seen.rows == 3)));
}

#[test]
fn one_that_was_cut_off_before_its_batch_is_begun_anew() {
    let dir = claimed();
    std::fs::create_dir(dir.path().join("snapshots")).unwrap();
    std::fs::write(dir.path().join("snapshots/building-0"), b"half").unwrap();
    restore(dir.path(), ROWS.into_iter(), restoring()).unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path().join("snapshots")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_directory_that_is_nobodys_is_refused() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(restore(dir.path(), ROWS.into_iter(), restoring()), Err(Error::NoDataDir { .. })));
}
