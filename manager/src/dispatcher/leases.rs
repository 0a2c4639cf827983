//! The leader's account of who was heard, and what follows from silence (`goat_core::lease` has the arithmetic).
//!
//! A heartbeat is granted only after a quorum has confirmed this leader in a check that began after the heartbeat
//! arrived; all heartbeats that have come by then share the check. Changes of state go through the log, so that a leader
//! that is none any more can tell nobody that a node is down.
//!
//! ```text
//! heartbeats ─► quorum check ─► account ─► grants         the loop awaits only its next event: no commit, no
//! answers of others, changes ──► account ─► orders        other node and no probe holds up a renewal
//!                      decided ◄── node_states ◄──┘
//! ```
//!
//! # Grants and a `Down` that may still commit
//! A node may be granted a lease only if no `Down` of it can commit afterwards, other than one that is proposed `L_m` after this
//! grant. A `Down` takes effect only if the node's row still has the version that the leader saw when it decided, and:
//! - Proposals of earlier leaders are decided. A grant needs a session that registered with this leader; the registration is
//!   committed in this term, so everything before it in the log has been applied, and it has changed the row's version.
//! - Of this leader's own, `ordered` keeps the seen version of each `Down` that was ordered and of which no end is known. One
//!   that timed out stays in it: it may be in the log.
//! - If the row's version is not that one, the `Down` took effect already (then the row says so) or never will.
//! - Else the heartbeat is not granted. `Ready` is ordered with the same seen version: of the two, the first in the log changes
//!   the version, and refuses the other. The next heartbeat finds either `down`, or a new version and is granted.
//!
//! A node that is `disconnected` without such a `Down` is granted at once; its `Ready` is proposed meanwhile.
//!
//! # Nobody is given up unasked
//! A node is called down only if a question to others about it ([`super::opinions`]) began less than `ASKED_WITHIN_MS` ago and nobody
//! reached it. A node whose time is over and that was not asked about is asked about first.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use goat_core::state::change::ChangeSet;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tracing::debug;

use super::Active;
use super::heartbeats::Heartbeat;
use super::lease_account::LeaseAccount;
use super::node_states::Decision;
use super::opinions::{Answer, Opinions};
use crate::clock;
use crate::raft::proposer::Error;

/// Between looks at the clock at the most.
pub(super) const MAX_WAIT_MS: u64 = 250;
/// Quorum checks under way at one time. One begins while another is under way only [`CHECK_EVERY_MS`] after it: on a
/// link with a round trip of 300 ms a heartbeat waits for one round trip and not for two.
const CHECKS: usize = 4;
const CHECK_EVERY_MS: u64 = 100;

/// A quorum check that has ended, with the heartbeats that had arrived before it began.
type Checked = (Vec<Heartbeat>, Result<(), Error>);

/// What ended a wait.
enum Heard {
    Heartbeats,
    Checked(Checked),
    Change(Result<Arc<ChangeSet>, RecvError>),
    Answer(Answer),
    Decided(Decision),
    Nothing,
}

/// Keeps leases until it is cancelled. Awaits nothing but what it hears next.
pub(super) async fn run(active: Arc<Active>, mut opinions: Opinions, mut decided: mpsc::Receiver<Decision>) {
    let mut changes = active.group.view().changes();
    let mut account = LeaseAccount::new(&active);
    let mut checks: FuturesUnordered<BoxFuture<'_, Checked>> = FuturesUnordered::new();
    let mut checked_at_ms = 0;
    loop {
        let now_ms = clock::boot_ms();
        let check_at_ms = if checks.is_empty() { now_ms } else { checked_at_ms + CHECK_EVERY_MS };
        let may_check = checks.len() < CHECKS && check_at_ms <= now_ms;
        let heard = tokio::select! {
            () = active.heartbeats.arrived(), if may_check => Heard::Heartbeats,
            Some(checked) = checks.next() => Heard::Checked(checked),
            received = changes.recv() => Heard::Change(received),
            Some(answer) = opinions.heard.recv() => Heard::Answer(answer),
            Some(decision) = decided.recv() => Heard::Decided(decision),
            () = tokio::time::sleep(Duration::from_millis(account.wait_ms(now_ms, check_at_ms))) => Heard::Nothing,
        };
        account.begin_turn(clock::boot_ms());
        match heard {
            Heard::Heartbeats => {
                checked_at_ms = clock::boot_ms();
                let (arrived, group) = (active.heartbeats.take(), &active.group);
                checks.push(Box::pin(async move { (arrived, group.confirm_leadership().await) }));
            }
            Heard::Checked((arrived, Ok(_))) => account.grant(&arrived),
            Heard::Checked((_, Err(error))) => {
                // The workers are not silent: this manager cannot vouch for them. When it can again, they start anew.
                debug!(%error, "heartbeats are not granted");
                account.begin_anew();
            }
            Heard::Change(received) => {
                if account.observe(received, &mut changes).is_none() {
                    return;
                }
            }
            Heard::Answer(answer) => account.answered(answer),
            Heard::Decided(decision) => account.decided(decision),
            Heard::Nothing => {}
        }
        account.look(clock::boot_ms(), &opinions);
    }
}
