//! One cluster at a time, started by the real program in a directory of its own, and taken down whatever happens.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Two clusters at once on a small machine would hold elections for want of CPU.
static TURN: Mutex<()> = Mutex::new(());

pub const SOON: Duration = Duration::from_secs(60);

pub struct World {
    pub dir: PathBuf,
    pub port: u16,
    _parent: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn testcluster(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_testcluster")).args(args).output().expect("testcluster can be started")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something to become true.
pub fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn is_running(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

impl World {
    pub fn new() -> Self {
        let turn = turn();
        let parent = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        Self { dir: parent.path().join("cluster"), port, _parent: parent, _turn: turn }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testcluster"));
        command.arg("--dir").arg(&self.dir).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("testcluster can be started")
    }

    /// Kills a process by SIGKILL, and waits until it is gone.
    pub fn kill(&self, pid: i64) {
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("there is kill");
        assert!(killed.success());
        wait_for("the process is gone", || !is_running(pid));
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that must fail with the code; what it said.
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    pub fn up(&self, more: &[&str]) -> String {
        let port = self.port.to_string();
        self.ok(&[&["up", "-d", "--runtime", "process", "--port", &port], more].concat())
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).expect("it is JSON")
    }

    /// A member's condition, as in the status.
    pub fn condition(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let members = status["members"].as_array().expect("a list");
        members.iter().find(|member| member["name"] == name).expect("it is there")["condition"].clone()
    }

    pub fn pids(&self) -> Vec<i64> {
        let status = self.status();
        status["members"].as_array().expect("a list").iter().filter_map(|member| member["pid"].as_i64()).collect()
    }

    /// The answer of echo, head and body; None while nobody answers.
    pub fn ask_echo(&self, request: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    pub fn echoes(&self, body: &str) -> bool {
        let length = body.len();
        let request =
            format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        self.ask_echo(&request).is_some_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.ends_with(body))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Already down, usually.
        let _ = self.run(&["down"]);
    }
}

/// Command lines of processes that have the directory among their arguments.
pub fn left_over(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("it is there");
    let lines = entries.filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(text(&bytes).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&dir) && (line.contains("goat-") || line.contains("supervise"))).collect()
}
