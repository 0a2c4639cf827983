//! Whether this manager may still take part: it may have been removed while it was away, or come back with an old disk.
//!
//! A manager that has acknowledged entries and then comes back without them must not vote again: it could elect a leader
//! that misses what it had acknowledged. One that lost its directory altogether has lost its number with it, and joins
//! anew under another one.

use std::time::Duration;

use futures::future::join_all;
use goat_proto::v1::ProgressReply;

use super::peers::Peers;
use super::seat::ask;
use super::{Group, Roster};

/// Nobody has to answer: without the others this manager may be needed for a quorum.
/// A new connection takes three round trips of up to 300 ms, and the question one more.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// No word of a leader for so long: ask why.
const SILENCE_MS: u64 = 3_000;
/// The same, where the own state says why already.
const SHORT_SILENCE_MS: u64 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this manager (number {id}) was removed from cluster {cluster}. Its data directory {dir} is of no more use: to let this \
         machine take part again, empty the directory and run `goat-manager join`, which gives it a new number"
    )]
    Removed { id: u64, cluster: String, dir: String },
    #[error(
        "the data directory {dir} is an old copy: its log ends at {last}, and this manager (number {id}) had acknowledged \
         everything up to {matched}. With it, acknowledged changes could be lost. Put the newest directory back; or remove this \
         manager with `goatctl manager rm`, empty the directory and let it join anew"
    )]
    OldDisk { id: u64, dir: String, last: u64, matched: u64 },
}

/// Where this manager's log ends and what it voted for last, as its disk has it.
#[derive(Debug, Clone, Copy)]
pub struct OwnLog {
    pub last_index: u64,
    pub vote_term: u64,
}

/// Asks the others before Raft starts.
pub async fn check(roster: &Roster, peers: &Peers, own: OwnLog) -> Result<(), Error> {
    let OwnLog { last_index: last, vote_term } = own;
    let id = roster.id;
    let asked = roster.others.iter().map(|address| tokio::time::timeout(ANSWER_WITHIN, ask(peers, id, address)));
    for reply in join_all(asked).await.into_iter().filter_map(|asked| asked.ok().flatten()) {
        // At its address there may be another cluster's by now.
        if reply.cluster_id != roster.cluster {
            continue;
        }
        if reply.is_caller_removed {
            return Err(Error::Removed { id, cluster: roster.cluster.clone(), dir: roster.dir.clone() });
        }
        // A leader that this manager has left behind by a later vote may know entries that a later leader took back.
        let is_deposed = reply.term < vote_term;
        if reply.caller_matched_index > last && !is_deposed {
            let matched = reply.caller_matched_index;
            return Err(Error::OldDisk { id, dir: roster.dir.clone(), last, matched });
        }
    }
    Ok(())
}

/// Returns when this manager has been removed.
pub async fn removed(group: &Group, dir: &str) -> Error {
    loop {
        let silent_ms = group.age_ms().unwrap_or(u64::MAX);
        if silent_ms > SHORT_SILENCE_MS && group.is_removed(group.id()) {
            break;
        }
        if silent_ms > SILENCE_MS {
            let others = group.members().into_iter().filter(|member| member.id != group.id());
            let addresses: Vec<_> = others.map(|member| member.address).collect();
            let asked = addresses.iter().map(|address| ask(group.peers(), group.id(), address));
            let cluster = group.cluster().to_string();
            let says_so = |reply: Option<ProgressReply>| {
                reply.is_some_and(|reply| reply.is_caller_removed && reply.cluster_id == cluster)
            };
            if join_all(asked).await.into_iter().any(says_so) {
                break;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Error::Removed { id: group.id(), cluster: group.cluster().to_string(), dir: dir.to_owned() }
}
