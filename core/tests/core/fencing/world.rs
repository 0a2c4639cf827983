//! The states of the lease protocol, and what can happen in each.
//!
//! Time is counted as age, in ticks, and no age grows beyond the point where it changes nothing any more; so the states
//! are finite though runs are endless. What is left out is left out because something that is in does the same or worse:
//! - A message is lost: the worker's next heartbeat takes its place. A partition is that no message arrives; one direction
//!   only, that the grant does not. One heartbeat at a time is under way: the worker counts from the latest that was
//!   granted, and the leader's account of an earlier one only makes it wait longer.
//! - A heartbeat arrives, waits, the quorum is asked, the grant is recorded and sent: here at once. Time between the first
//!   two is as time on the way; time after the quorum's answer makes the leader record a later moment and wait longer, or
//!   another leader be elected meanwhile, which begins to wait later still.
//! - A leader is frozen: nothing forces a leader to act, and another may be elected at any time. Only who leads can commit,
//!   that is Raft's promise; a manager that thinks it leads still is in the broken variant that listens to it.
//! - What is so old that it can renew nothing is dropped.

use super::arithmetic::{EVIDENCE_TICKS, FRESH_TICKS, SLOW};

/// What is between a worker and the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mail {
    Nothing,
    Heartbeat {
        age: u8,
    },
    /// `mine`: whether the slot is the worker's, as the leader said with it; None from one that does not lead any more.
    Grant {
        age: u8,
        mine: Option<bool>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Since the heartbeat was sent that was granted last.
    pub lease: u8,
    /// Since another worker was asked that said the managers are gone.
    pub evidence: u8,
    /// Whether the slot's task lives here.
    pub runs: bool,
    pub is_frozen: bool,
    pub mail: Mail,
}

/// From whom the first worker is cut off. The second never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    Nobody,
    Managers,
    Everybody,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// How fast clocks go, in ms a tick; for the whole run.
    pub workers_pace: [u8; 2],
    pub managers_pace: [u8; 2],
    /// Who can commit.
    pub leader: Option<u8>,
    /// A manager that led before, and does not know better.
    pub is_there_a_stale_leader: bool,
    /// By the leader: since the last grant, or since it was elected, or since when the other is heard.
    pub silent: [u8; 2],
    /// Replicated: nodes that were given up, and whose the slot is.
    pub down: [bool; 2],
    pub owner: Option<u8>,
    pub cut: Cut,
    /// Which worker this leader has granted a heartbeat; only where one is asked by the other.
    pub found: [bool; 2],
    pub workers: [Worker; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Tick,
    /// A manager becomes leader, or the leader again in a new term.
    Elect(u8),
    /// Nobody leads, until someone is elected.
    LoseLeader,
    Freeze(u8),
    Thaw(u8),
    Cut(Cut),
    Send(u8),
    /// The leader has confirmed itself, records the grant and sends it.
    Grant(u8),
    /// A manager that does not lead any more does so without asking.
    GrantStale(u8),
    Deliver(u8),
    /// All of that at once, for the worker that nothing keeps from the leader.
    Exchange,
    /// The worker asks the other.
    Ask(u8),
    /// The leader calls the node down: its task is lost.
    GiveUp(u8),
    Assign(u8),
}

impl Worker {
    pub const fn new(over: u8) -> Self {
        Self { lease: over, evidence: EVIDENCE_TICKS + 1, runs: false, is_frozen: false, mail: Mail::Nothing }
    }

    /// Whether another worker's word counts still, by a clock of that pace: as long as the slowest clock makes it.
    pub const fn is_sheltered(&self, pace: u8) -> bool {
        self.evidence * pace < EVIDENCE_TICKS * SLOW
    }

    /// Whether its last grant is proof for others that managers live.
    pub const fn has_fresh_grant(&self, pace: u8) -> bool {
        self.lease * pace < FRESH_TICKS * SLOW
    }
}
