//! Runs the binary, with a deadline on everything.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.lines().collect()
    }
}

/// The command with words at blanks, asking these managers.
pub fn command(addresses: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goatctl"));
    command.args(line.split_whitespace()).env("GOAT_ADDR", addresses).env("TZ", "UTC");
    command.env("GOAT_PLAINTEXT", "true").env_remove("GOAT_CREDENTIALS").env_remove("GOAT_CONTEXT");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub async fn goatctl(addresses: &str, line: &str) -> Ended {
    let running = command(addresses, line).output();
    let output = timeout(DEADLINE, running).await.expect("it ends in time").expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
    Ended { code: code(output.status), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A command that is still running.
pub struct Running {
    pub child: Child,
    pub stdout: Lines<BufReader<ChildStdout>>,
    pub stderr: Lines<BufReader<ChildStderr>>,
}

pub fn start(addresses: &str, line: &str) -> Running {
    let mut child = command(addresses, line).spawn().expect("it starts");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    Running { child, stdout, stderr }
}

impl Running {
    pub async fn next_line(&mut self) -> String {
        let line = timeout(DEADLINE, self.stdout.next_line()).await.expect("a line comes in time");
        line.expect("it is UTF-8").expect("the output goes on")
    }

    /// Reads on until a line of standard error holds `text`.
    pub async fn until_it_says(&mut self, text: &str) {
        let found = async {
            while let Some(line) = self.stderr.next_line().await.expect("it is UTF-8") {
                if line.contains(text) {
                    return;
                }
            }
            panic!("it never said {text:?}");
        };
        timeout(DEADLINE, found).await.expect("it says so in time");
    }

    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT)
            .expect("it can be signalled");
    }

    pub async fn end(mut self) -> Ended {
        let status = timeout(DEADLINE, self.child.wait()).await.expect("it ends in time").expect("it is a child");
        let mut ended = Ended { code: code(status), stdout: String::new(), stderr: String::new() };
        while let Ok(Some(line)) = self.stdout.next_line().await {
            ended.stdout.push_str(&line);
            ended.stdout.push('\n');
        }
        while let Ok(Some(line)) = self.stderr.next_line().await {
            ended.stderr.push_str(&line);
            ended.stderr.push('\n');
        }
        ended
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("it was killed: {status}"))
}
