//! How a command ends: its exit code, and one clear message. Codes are stable; scripts rely on them.
//!
//! Nothing else in this crate chooses an exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use tonic::{Code, Status};

/// What an exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    CannotBePlaced = 3,
    TimedOut = 4,
    Unreachable = 5,
    /// Tasks of a change that was accepted do not stay up.
    TasksFail = 6,
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// Without an `error:` before it.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The reader of standard output has left: nobody wants to know.
    is_quiet: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_quiet: false }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With more lines below its message, each begun by a newline.
    pub fn with_detail(self, lines: &str) -> Self {
        Self { message: self.message + lines, ..self }
    }

    /// Of what came after a change that a manager has accepted: `what` names it, for it stays.
    pub fn after_acceptance(self, what: &str) -> Self {
        self.with_hint(format!("the change was accepted ({what})"))
    }

    /// What a manager answered, and means.
    pub fn from_status(status: &Status) -> Self {
        let message = match status.message() {
            "" => format!("the manager answered {:?} and says no more", status.code()),
            text => text.to_owned(),
        };
        match status.code() {
            Code::InvalidArgument => Self::usage(message),
            Code::Unavailable => Self::new(Exit::Unreachable, message),
            Code::DeadlineExceeded => Self::new(Exit::TimedOut, message),
            Code::Unimplemented => Self::failed(format!("the manager does not know this request ({message})"))
                .with_hint("it may run an older version: `goatctl version` shows every member's"),
            Code::OutOfRange => Self::failed(message).with_hint(
                "the answer is larger than the limit: ask for less, by service, by node, or without history",
            ),
            _ => Self::failed(message),
        }
    }

    /// Says why on standard error, and gives the code.
    pub fn report(&self) -> ExitCode {
        if self.is_quiet {
            return ExitCode::SUCCESS;
        }
        say(&self.to_string());
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Only standard output is written to.
    fn from(error: std::io::Error) -> Self {
        let is_quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { is_quiet, ..Self::failed(format!("cannot write the output: {error}")) }
    }
}

/// A line on standard error, for people. That nobody can read it is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_manager_has_its_exit_code() {
        let exit = |code| Failure::from_status(&Status::new(code, "why")).exit;
        assert_eq!(exit(Code::InvalidArgument), Exit::Usage);
        assert_eq!(exit(Code::Unavailable), Exit::Unreachable);
        assert_eq!(exit(Code::DeadlineExceeded), Exit::TimedOut);
        for code in [Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition, Code::Aborted, Code::Internal] {
            assert_eq!(exit(code), Exit::Failed);
        }
    }

    #[test]
    fn an_error_is_a_sentence_and_a_hint() {
        let failure = Failure::failed("no service web").with_hint("goatctl service ls");
        assert_eq!(failure.to_string(), "error: no service web\nhint: goatctl service ls");
    }
}
