//! What is known of one connection.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use crate::kernel::HostId;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Arrived and not read.
    pub(super) arrived: VecDeque<Bytes>,
    /// Sent and not read, in bytes.
    pub(super) unread: usize,
    /// Of the segment that was sent last.
    pub(super) last_arrival: u64,
    /// How many segments were sent, and how many came.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The end has arrived, behind everything.
    pub(super) has_ended: bool,
    /// The writer has sent the end.
    pub(super) is_shut: bool,
    pub(super) is_reader_gone: bool,
    pub(super) is_writer_gone: bool,
}

/// A connection; side 0 dialled.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) hosts: [HostId; 2],
    /// In which of its lives each host made it.
    pub(super) lives: [u64; 2],
    pub(super) pipes: [Pipe; 2],
    /// The one that dialled knows that it was accepted.
    pub(super) is_open: bool,
    pub(super) is_accepted: bool,
    pub(super) is_reset: bool,
    /// Whose end went without a word of its program.
    resets: [bool; 2],
}

impl Conn {
    pub(super) fn new(hosts: [HostId; 2], lives: [u64; 2]) -> Self {
        Self {
            hosts,
            lives,
            pipes: Default::default(),
            is_open: false,
            is_accepted: false,
            is_reset: false,
            resets: [false; 2],
        }
    }

    pub(super) const fn is_reset_by(&self, side: usize) -> bool {
        self.resets[side]
    }

    pub(super) const fn mark_reset_by(&mut self, side: usize) {
        self.resets[side] = true;
    }
}
