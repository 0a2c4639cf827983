//! A command beside a task: a child of the agent, with the task's environment and working directory, in a process group of
//! its own, which is killed when the command takes too long or nobody waits for it any more.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::state::Launch;
use super::supervise::be_killed_as_others_are;
use super::{ProcessRuntime, read_blocking};
use crate::durable;
use crate::runtime::{Access, Error, Ran};
use crate::task::TaskMeta;

/// More of what it says is read and not kept.
const MAX_OUTPUT_BYTES: usize = 4 << 10;

#[async_trait::async_trait]
impl Access for ProcessRuntime {
    /// Where it was told to listen when it was launched: the worker's address may have been changed since.
    async fn address_of(&self, meta: &TaskMeta) -> Result<IpAddr, Error> {
        let launch = self.launch_of(meta).await?;
        let host = launch.env.get("GOAT_HOST").and_then(|host| host.parse().ok());
        host.ok_or_else(|| Error::failed("agent-error", "spec.json holds no address to listen on"))
    }

    async fn exec(&self, meta: &TaskMeta, argv: &[String], limit: Duration) -> Result<Ran, Error> {
        let launch = self.launch_of(meta).await?;
        let (program, args) =
            argv.split_first().ok_or_else(|| Error::failed("command-not-found", "no program is named"))?;
        let command = launch.command(&self.dir(meta.task), program, args).into();
        let mut running = Running::spawn(command).map_err(|error| refused(program, &error))?;
        let code = tokio::time::timeout(limit, running.end()).await.ok();
        Ok(Ran { code: code.transpose().map_err(unanswered)?.flatten(), output: running.output() })
    }
}

impl ProcessRuntime {
    async fn launch_of(&self, meta: &TaskMeta) -> Result<Launch, Error> {
        let launch = read_blocking(self.dir(meta.task).join("spec.json"), durable::read::<Launch>).await?;
        launch.ok_or_else(|| Error::failed("container-lost", "spec.json is gone"))
    }
}

/// What the program cannot help is not held against it.
fn refused(program: &str, error: &io::Error) -> Error {
    let problem = format!("{program}: {error}");
    match error.kind() {
        ErrorKind::NotFound => Error::failed("command-not-found", problem),
        ErrorKind::PermissionDenied => Error::failed("permission-denied", problem),
        ErrorKind::ArgumentListTooLong | ErrorKind::InvalidInput | ErrorKind::IsADirectory => {
            Error::failed("start-failed", problem)
        }
        _ => Error::Unreachable { problem },
    }
}

fn unanswered(error: io::Error) -> Error {
    Error::Unreachable { problem: error.to_string() }
}

/// A command that has not been collected.
struct Running {
    child: Child,
    /// Until it was collected, its number, and so its group's, is its own.
    group: Option<Pid>,
    pipe: pipe::Receiver,
    said: Vec<u8>,
}

impl Running {
    fn spawn(mut command: Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let child = command.spawn()?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        if let Some(pid) = group {
            // The agent may be spared when memory runs out; what it runs for a task is not.
            be_killed_as_others_are(&pid.to_string());
        }
        let running = Self { child, group, pipe: pipe::Receiver::from_owned_fd(reader.into())?, said: Vec::new() };
        Ok(running)
    }

    /// Its exit code, None where a signal has none. What it started and left behind is not waited for.
    async fn end(&mut self) -> io::Result<Option<i32>> {
        let mut buffer = [0; 1_024];
        let mut is_open = true;
        let status = loop {
            tokio::select! {
                biased;
                read = self.pipe.read(&mut buffer), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(bytes) => self.keep(bytes, &buffer),
                },
                status = self.child.wait() => break status?,
            }
        };
        self.group = None;
        while let Ok(bytes @ 1..) = self.pipe.try_read(&mut buffer) {
            self.keep(bytes, &buffer);
        }
        Ok(exit_code(status))
    }

    fn keep(&mut self, bytes: usize, buffer: &[u8]) {
        let room = MAX_OUTPUT_BYTES - self.said.len();
        self.said.extend_from_slice(&buffer[..bytes.min(room)]);
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may just have ended. The child itself is collected by tokio.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use nix::sys::stat::Mode;

    use super::*;
    use crate::task::tests::meta;
    use crate::taskset::TaskSet;

    const PATIENT: Duration = Duration::from_secs(60);

    /// A runtime that has launched a task, as far as a command beside it can see.
    fn launched(root: &Path) -> ProcessRuntime {
        let runtime = ProcessRuntime::new(root, "/nowhere".into(), &TaskSet::new("test")).expect("it has a directory");
        let dir = runtime.dir(meta(1).task);
        durable::make_dir(&dir.join("work")).expect("it can be made");
        let env = BTreeMap::from([("GOAT_HOST".to_owned(), "127.0.0.9".to_owned()), ("A".into(), "b c".into())]);
        let launch = Launch { meta: meta(1), argv: vec!["/bin/true".into()], env };
        durable::write(&dir.join("spec.json"), &launch).expect("it can be written");
        runtime
    }

    fn shell(script: &str) -> [String; 3] {
        ["sh".into(), "-c".into(), script.into()]
    }

    #[tokio::test]
    async fn a_command_has_the_tasks_environment_and_directory_and_says_how_it_ended() {
        let root = tempfile::tempdir().expect("a directory");
        let runtime = launched(root.path());
        let run = async |script: &str| runtime.exec(&meta(1), &shell(script), PATIENT).await;
        let ran = |code, output: &str| Ok(Ran { code: Some(code), output: output.into() });
        assert_eq!(run("echo $A $(basename $PWD) >&2; exit 3").await, ran(3, "b c work\n"));
        assert_eq!(run("kill -9 $$").await, ran(137, ""));
        let lots = run("head -c 100000 /dev/zero").await.expect("it ran");
        assert_eq!((lots.code, lots.output.len()), (Some(0), MAX_OUTPUT_BYTES));
        // Who goes on in the background, with its output open, is not waited for.
        let left = run("sleep 1000 & echo $!").await.expect("it ran");
        let pid = left.output.trim().parse().map(Pid::from_raw).expect("a process id");
        assert_eq!((left.code, nix::sys::signal::kill(pid, Signal::SIGKILL)), (Some(0), Ok(())));
        assert_eq!(runtime.address_of(&meta(1)).await, Ok([127, 0, 0, 9].into()));
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_fails_by_a_constant_word() {
        let root = tempfile::tempdir().expect("a directory");
        let runtime = launched(root.path());
        let refused = async |task, argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            match runtime.exec(&meta(task), &argv, PATIENT).await {
                Err(Error::Failed { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(1, &["/no/such/program"]).await, "command-not-found");
        assert_eq!(refused(1, &[]).await, "command-not-found");
        assert_eq!(refused(2, &["true"]).await, "container-lost");
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_or_is_given_up_is_killed_with_its_group() {
        let root = tempfile::tempdir().expect("a directory");
        let runtime = launched(root.path());
        let limit = Duration::from_millis(50);
        let late = runtime.exec(&meta(1), &shell("sleep 1000"), limit).await;
        assert_eq!(late, Ok(Ran { code: None, output: String::new() }));

        // Both processes hold the FIFO open; it ends when neither is there any more.
        let fifo = runtime.dir(meta(1).task).join("work/fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("it can be made");
        let mut held = pipe::OpenOptions::new().open_receiver(&fifo).expect("it can be opened");
        let script = shell("exec 3>fifo; sleep 1000 & echo begun >&3; wait");
        let (meta, mut begun) = (meta(1), [0; 6]);
        tokio::select! {
            ran = runtime.exec(&meta, &script, PATIENT) => panic!("{ran:?}"),
            read = begun_in(&mut held, &mut begun) => read,
        }
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENT, held.read_to_end(&mut rest)).await;
        ended.expect("both are killed").expect("it can be read");
    }

    /// Before anybody has opened it, a FIFO reads as ended.
    async fn begun_in(held: &mut pipe::Receiver, begun: &mut [u8]) {
        let mut filled = 0;
        while filled < begun.len() {
            held.readable().await.expect("it stays");
            filled += held.try_read(&mut begun[filled..]).unwrap_or(0);
            tokio::task::yield_now().await;
        }
    }
}
