//! A group of one is made out of a larger one: all of the log stays, and nothing is done to a directory that has moved.

use crate::common::{membership, put, reopen, try_open};
use goat_raft_store::{Alone, EntryId, Error, Member, Offline, make_alone};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tempfile::TempDir;

fn alone(last: u64) -> Alone {
    Alone {
        last: Some(EntryId { term: 2, index: last }),
        term: 1_002,
        member: Member { name: "m1".into(), address: "new:1".into() },
        commands: vec![b"recovered=yes".as_slice().into()],
    }
}

#[tokio::test]
async fn the_tail_that_was_not_committed_is_kept_and_committed() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    let entries = vec![membership(1, 0), put(1, 1, "a=1"), put(2, 2, "b=2")];
    store.append(entries.clone()).await;
    store.apply(entries[..2].to_vec()).await;
    drop(store);
    drop(reopen(dir.path()));

    let before = Offline::open(dir.path()).unwrap();
    assert_eq!(before.visit_log(&mut |_, _| {}).unwrap().last, alone(2).last);
    assert!(matches!(make_alone(dir.path(), alone(2)), Err(Error::Locked { .. })), "it is being looked at");
    drop(before);
    assert!(matches!(make_alone(dir.path(), alone(1)), Err(Error::Moved { .. })));
    assert_eq!(make_alone(dir.path(), alone(2)).unwrap(), EntryId { term: 1_002, index: 4 });
    assert!(matches!(make_alone(dir.path(), alone(2)), Err(Error::Moved { .. })), "once is enough");

    let after = Offline::open(dir.path()).unwrap();
    let mut commands = Vec::new();
    let log = after.visit_log(&mut |_, command| commands.extend(command.map(<[u8]>::to_vec))).unwrap();
    assert_eq!(commands, [b"a=1".as_slice(), b"b=2", b"recovered=yes"]);
    let members = log.members.unwrap();
    assert_eq!((members.voters, members.all.len(), members.all[0].1.address.as_str()), (vec![1], 1, "new:1"));
    assert_eq!(after.meta().unwrap().vote.unwrap().term, 1_002);
    drop(after);

    let mut store = reopen(dir.path());
    assert_eq!(store.log.read_committed().await.unwrap().unwrap().index, 4);
    assert_eq!(store.log.try_get_log_entries(0..5).await.unwrap().len(), 5);
}
