//! A cluster started by the real testcluster, asked by the real goatctl, and taken down whatever happens.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Two clusters at once on a small machine would hold elections for want of CPU.
static TURN: Mutex<()> = Mutex::new(());
const SOON: Duration = Duration::from_secs(60);

pub struct World {
    dir: PathBuf,
    addresses: String,
    credentials: String,
    _parent: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A program of this workspace: built beside the tests by `tests/run`.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let path = own.ancestors().nth(2).expect("target/debug/deps").join(name);
    assert!(path.is_file(), "{} is missing: build the workspace first, as tests/run does", path.display());
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(what: &str, output: &Output) -> String {
    assert!(output.status.success(), "{what}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether a daemon answers, and with it the image of echo, made by `tests/run`.
pub fn has_docker() -> bool {
    Command::new("docker").args(["version"]).output().is_ok_and(|output| output.status.success())
}

pub fn docker(args: &[&str]) -> String {
    succeeded("docker", &Command::new("docker").args(args).output().expect("there is a docker"))
}

impl World {
    /// A cluster without echo. `more`: options of `testcluster up`.
    pub fn up(runtime: &str, more: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = tempfile::tempdir().expect("a directory");
        let mut world = Self {
            dir: parent.path().join("cluster"),
            addresses: String::new(),
            credentials: String::new(),
            _parent: parent,
            _turn: turn,
        };
        world.testcluster(&[&["up", "-d", "--no-echo", "--runtime", runtime], more].concat());
        let env = world.testcluster(&["env"]);
        let set = |name: &str| env.split_whitespace().find_map(|word| word.strip_prefix(name)).expect(&env).to_owned();
        (world.addresses, world.credentials) = (set("GOAT_ADDR="), set("GOAT_CREDENTIALS="));
        world.until("all workers are ready", || {
            let nodes = world.json(&["node", "ls"]);
            let nodes = nodes.as_array().expect("a list");
            let wanted =
                more.iter().skip_while(|word| **word != "--workers").nth(1).map_or(3, |n| n.parse().expect("a number"));
            (nodes.iter().filter(|node| node["state"] == "ready").count() == wanted).then_some(())
        });
        world
    }

    /// A file in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Of the managers, as goatctl is given them.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// Runs testcluster on it; what it printed.
    pub fn testcluster(&self, args: &[&str]) -> String {
        let output = Command::new(program("testcluster")).arg("--dir").arg(&self.dir).args(args).output();
        succeeded(&format!("testcluster {args:?}"), &output.expect("it can be started"))
    }

    /// Runs goatctl: exit code, standard output, standard error.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_at(&self.addresses, args)
    }

    pub fn run_at(&self, addresses: &str, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("goatctl"))
            .env("GOAT_ADDR", addresses)
            .env("GOAT_CREDENTIALS", &self.credentials)
            .args(args)
            .output();
        let output = output.expect("it can be started");
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs goatctl, which has to succeed, and to watch no tasks beyond the moment when they run; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let words = || args.iter().enumerate().filter(|(_, word)| ["run", "create", "update", "scale"].contains(*word));
        let mut args = args.to_vec();
        if let Some((at, _)) = words().next().filter(|(at, _)| *at < 4 && !args.contains(&"--monitor")) {
            args.splice(at + 1..at + 1, ["--monitor", "0"]);
        }
        let args = &args[..];
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "goatctl {args:?}: {out}{err}");
        out
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["-o", "json"], args].concat())).expect("it is JSON")
    }

    /// Asks until there is an answer, which has to come in time.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills a task of the process runtime by its `container_id`.
    pub fn kill_task(&self, container_id: &str) {
        let pid = container_id.trim_start_matches("pid:");
        let killed = Command::new("kill").args(["-9", pid]).status().expect("there is kill");
        assert!(killed.success(), "{container_id}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is left after a failure is testcluster's to find; the test's own error counts.
        let _ = Command::new(program("testcluster")).arg("--dir").arg(&self.dir).arg("down").output();
    }
}
