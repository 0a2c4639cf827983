//! The fixed vocabularies as they are written on the wire, in output and on the command line.

use goat_core::model::{
    Availability, Cause, Desired, Driver, NodeState, OnDisconnect, Protocol, RestartCondition, Strategy, TaskState,
};

/// An enum of core's whose values are words.
pub trait Word: Copy + PartialEq + Send + Sync + 'static {
    /// Every value, in the order in which help texts list them.
    const ALL: &'static [Self];

    /// How it is written.
    fn word(self) -> &'static str;
}

/// One list makes both, so that a value added to core does not compile here until it has its word.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl Word for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

words!(Driver { Docker = "docker", Process = "process" });
words!(Protocol { Tcp = "tcp", Udp = "udp" });
words!(RestartCondition { No = "no", OnFailure = "on-failure", Always = "always", UnlessStopped = "unless-stopped" });
words!(Strategy { Spread = "spread", Binpack = "binpack", Epvm = "epvm" });
words!(OnDisconnect { Keep = "keep", Stop = "stop", StopIfIsolated = "stop-if-isolated" });
words!(NodeState { Ready = "ready", Disconnected = "disconnected", Down = "down" });
words!(Availability { Active = "active", Drain = "drain" });
words!(Desired { Running = "running", Stopped = "stopped", Removed = "removed" });
words!(TaskState {
    Pending = "pending",
    Assigned = "assigned",
    Preparing = "preparing",
    Starting = "starting",
    Running = "running",
    Complete = "complete",
    Failed = "failed",
    Stopped = "stopped",
    Rejected = "rejected",
    Lost = "lost",
});
words!(Cause {
    User = "user",
    Exit = "exit",
    Health = "health",
    NodeLost = "node-lost",
    Drain = "drain",
    Update = "update",
    Scale = "scale",
    NodeBack = "node-back",
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::word;

    fn every_word_is_read_back<W: Word + std::fmt::Debug>(of_core: impl Fn(W) -> &'static str) {
        for &value in W::ALL {
            assert_eq!(word("field", value.word()), Ok(value));
            assert_eq!(of_core(value), value.word());
        }
    }

    #[test]
    fn words_are_read_back_and_agree_with_those_that_core_writes() {
        every_word_is_read_back(NodeState::as_str);
        every_word_is_read_back(Availability::as_str);
        every_word_is_read_back(TaskState::as_str);
        every_word_is_read_back(Cause::as_str);
        every_word_is_read_back(<Desired as Word>::word);
        every_word_is_read_back(<OnDisconnect as Word>::word);
        every_word_is_read_back(<Strategy as Word>::word);
        every_word_is_read_back(<RestartCondition as Word>::word);
        every_word_is_read_back(<Protocol as Word>::word);
        every_word_is_read_back(<Driver as Word>::word);
    }
}
