//! How a task's process ended, and what of that is somebody else's doing. Values only.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// The exit code of what SIGKILL ended.
pub const KILLED: i32 = 137;

/// The reason of a task that somebody ended with Docker's own commands.
pub const KILLED_EXTERNALLY: &str = "killed-externally";

/// How a task's process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 plus the signal's number if a signal ended it; `None` if nobody saw it end.
    pub code: Option<i32>,
    pub is_oom: bool,
    pub at_ms: u64,
    /// The signal to end that the container was sent through Docker before. Who sent it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The reason, a constant word, and its text, if there is more to report than the exit code.
    pub failure: Option<(String, String)>,
}

impl Exit {
    /// It has ended, and how is not known, or not yet.
    pub fn unseen() -> Self {
        Self { at_ms: crate::clock::now_ms(), ..Self::default() }
    }

    /// The same, known not to be this worker's doing: if a signal was sent through Docker, somebody else sent it.
    pub fn by_itself(self) -> Self {
        let Some(signal) = self.signal.filter(|_| self.failure.is_none()) else { return self };
        let name = Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
        let code = self.code.map_or_else(String::new, |code| format!(" and ended with exit code {code}"));
        let problem = format!(
            "its container was sent {name} outside GOAT (docker stop, kill, restart or rm -f){code}; to stop a task, use goatctl"
        );
        Self { failure: Some((KILLED_EXTERNALLY.into(), problem)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::TaskState;

    use super::*;
    use crate::task::Record;
    use crate::task::tests::meta;

    #[test]
    fn a_signal_that_somebody_else_sent_is_the_reason() {
        let ended = |exit: Exit| {
            let mut record = Record::new(meta(1), 0);
            record.exited(exit.by_itself());
            (record.state, record.exit_code, record.reason.unwrap_or_default(), record.error.unwrap_or_default())
        };
        let exit = Exit { code: Some(0), signal: Some(15), ..Exit::default() };
        let (state, code, reason, error) = ended(exit.clone());
        assert_eq!((state, code, reason.as_str()), (TaskState::Failed, Some(0), KILLED_EXTERNALLY));
        assert!(error.contains("SIGTERM") && error.contains("exit code 0"), "{error}");
        let failure = Some(("runtime-down".to_owned(), "the daemon was shutting down".to_owned()));
        assert_eq!(ended(Exit { failure, ..exit }).2, "runtime-down", "what is known better stays");
        assert_eq!(ended(Exit { code: Some(0), ..Exit::default() }).0, TaskState::Complete);
    }
}
