//! `goat-worker hold DIR`: a task's process before it is the task's. It waits until the supervisor has written down which
//! process it is, and only then becomes the program. If the supervisor dies before that, it ends, and nothing has run: of a
//! process that is written down nowhere nobody would know, and another would be started beside it.
//!
//! The two talk over its standard input, a socket. A byte lets it go. Its end without a word says that the program runs; a
//! word says why not.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::state::{Launch, Word, say};
use crate::durable;

const GO: &[u8] = b"\n";

/// A process that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub child: Child,
    talk: UnixStream,
}

impl Held {
    /// In a group of its own, with its output in pipes. `dir`: the task's.
    pub fn spawn(dir: &Path) -> io::Result<Self> {
        let (talk, its) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("hold").arg(dir).stdin(OwnedFd::from(its)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn()?;
        // With it goes this side's copy of the other end, and the end of the other is seen.
        drop(command);
        Ok(Self { child, talk })
    }

    /// Lets it become the program; the word where it could not. One that was killed meanwhile is as one that has begun.
    pub fn release(&mut self) -> Option<Word> {
        let mut said = Vec::new();
        let talked = self.talk.write_all(GO).and_then(|()| self.talk.read_to_end(&mut said));
        talked.ok().and_then(|_| serde_json::from_slice(&said).ok())
    }
}

/// The life of that process. Returns, with its exit code, only where it does not become the program.
pub fn run(dir: &Path) -> i32 {
    // The standard input is the program's from the moment that it is tried.
    let Ok(talk) = io::stdin().as_fd().try_clone_to_owned() else { return 1 };
    let mut talk = UnixStream::from(talk);
    if talk.read_exact(&mut [0]).is_err() {
        return 1;
    }
    say(&mut talk, &become_program(dir));
    1
}

fn become_program(dir: &Path) -> Word {
    let failed = |reason: &str, problem: String| Word::Failed { reason: reason.into(), problem };
    let launch = match durable::read::<Launch>(&dir.join("spec.json")) {
        Ok(Some(launch)) => launch,
        Ok(None) => return failed("start-failed", "spec.json is missing".into()),
        Err(error) => return failed("start-failed", error.to_string()),
    };
    let Some((program, args)) = launch.argv.split_first() else {
        return failed("command-not-found", "no program is named".into());
    };
    let error = launch.command(dir, program, args).stdin(Stdio::null()).exec();
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "command-not-found",
        io::ErrorKind::PermissionDenied => "permission-denied",
        _ => "start-failed",
    };
    failed(reason, format!("{program}: {error}"))
}
