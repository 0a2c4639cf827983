//! What systemd hears of managers and workers, on real processes: this test listens in its place.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use world::program;

const INTERVAL: Duration = Duration::from_millis(600);
const DEADLINE: Duration = Duration::from_secs(60);

/// A process, and the socket at which it is heard. Killed with the test.
struct Heard {
    child: Child,
    ear: UnixDatagram,
    /// Lines that were heard and not looked at yet.
    lines: Vec<String>,
}

impl Drop for Heard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Heard {
    fn start(name: &str, args: &[&str], dir: &Path) -> Self {
        let socket = dir.join(format!("{name}-{}.notify", args.len()));
        let _ = std::fs::remove_file(&socket);
        let ear = UnixDatagram::bind(&socket).expect("bound");
        let child = Command::new(program(name))
            .args(args)
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", INTERVAL.as_micros().to_string())
            .stderr(std::fs::File::create(dir.join(format!("{name}.log"))).expect("there is room"))
            .spawn();
        Self { child: child.expect("it starts"), ear, lines: Vec::new() }
    }

    /// The next line that fits; what came before it is dropped. None after a silence of that length.
    fn hears(&mut self, silence: Duration, mut fits: impl FnMut(&str) -> bool) -> Option<String> {
        self.ear.set_read_timeout(Some(silence)).expect("it is above 0");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.lines.iter().position(|line| fits(line));
            if let Some(at) = at {
                return self.lines.drain(..=at).next_back();
            }
            let before = std::mem::take(&mut self.lines);
            assert!(Instant::now() < deadline, "it talks of other things: {before:?}");
            let mut message = [0; 4_096];
            let length = self.ear.recv(&mut message).ok()?;
            self.lines = String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect();
        }
    }

    /// Waits for a line that begins so.
    fn says(&mut self, beginning: &str) -> String {
        let line = self.hears(DEADLINE, |line| line.starts_with(beginning));
        line.unwrap_or_else(|| panic!("it never said {beginning}"))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("there is kill");
        assert!(sent.success(), "{signal}");
    }

    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it is there");
        let stats = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        stats.into_iter().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    }

    /// Lives, says so, and is not heard while it stands still.
    fn check_watchdog(&mut self) {
        self.says("WATCHDOG=1");
        self.says("WATCHDOG=1");
        self.signal("-STOP");
        until("it stands still", || self.is_stopped().then_some(()));
        // What was said before.
        while self.hears(Duration::from_millis(1), |_| true).is_some() {}
        assert_eq!(self.hears(INTERVAL * 2, |_| true), None);
        self.signal("-CONT");
        self.says("WATCHDOG=1");
    }

    /// Says that it stops when it is told to, and does.
    fn check_stop(&mut self) {
        self.signal("-TERM");
        self.says("STOPPING=1");
        assert!(self.child.wait().expect("it was started").success());
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match ask() {
            Some(answer) => return answer,
            None => assert!(Instant::now() < deadline, "not in time: {what}"),
        }
        std::thread::yield_now();
    }
}

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).output().expect("it starts")
}

fn succeeded(name: &str, args: &[&str]) {
    let output = run(name, args);
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A free port on an address of loopback that is this test's own.
fn address(host: u8) -> String {
    let listener = std::net::TcpListener::bind(format!("127.85.7.{host}:0")).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").to_string()
}

/// A cluster of one manager, which is not started yet: its address and directory.
fn founded(dir: &Path, host: u8) -> (String, PathBuf) {
    let (address, data) = (address(host), dir.join("m"));
    let place = ["--name", "m", "--advertise", &address, "--data-dir", data.to_str().expect("text"), "--plaintext"];
    succeeded("goat-manager", &[&["init"], &place[..]].concat());
    (address, data)
}

fn manager(address: &str, data: &Path, dir: &Path) -> Heard {
    let data = data.to_str().expect("text");
    Heard::start("goat-manager", &["run", "--plaintext", "--listen", address, "--data-dir", data], dir)
}

#[test]
fn a_manager_tells_when_it_serves_that_it_lives_and_that_it_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let (address, data) = founded(dir.path(), 1);
    let mut manager = manager(&address, &data, dir.path());
    manager.says("READY=1");
    // It does serve.
    succeeded("goatctl", &["--plaintext", "-H", &address, "status"]);
    assert_eq!(manager.says("STATUS=leads"), "STATUS=leads in term 2, one of 1 manager");
    manager.check_watchdog();
    manager.check_stop();
}

#[test]
fn a_manager_that_waits_for_a_quorum_is_ready_and_says_what_it_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, data) = founded(dir.path(), 2);
    let mut alone = manager(&first, &data, dir.path());
    alone.says("READY=1");
    let (second, data_2) = (address(3), dir.path().join("m2"));
    let data_2 = data_2.to_str().expect("text");
    let place = ["--name", "m2", "--advertise", &second, "--data-dir", data_2, "--plaintext"];
    succeeded("goat-manager", &[&["join", first.as_str()], &place[..]].concat());
    let run = ["run", "--plaintext", "--listen", &second, "--data-dir", data_2, "--log-level", "info"];
    let mut joined = Heard::start("goat-manager", &run, dir.path());
    joined.says("READY=1");
    joined.says("STATUS=follows m in term");
    drop((alone, joined));
    let mut back = manager(&first, &data, dir.path());
    back.says("READY=1");
    back.says("STATUS=knows no leader: waits for a majority of 2 managers");
    back.says("WATCHDOG=1");
}

#[test]
fn a_worker_tells_of_its_agent_and_its_session_and_nothing_beside_it_speaks_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (address_, data) = founded(dir.path(), 4);
    let own = dir.path().join("w");
    let (own_text, listen) = (own.to_str().expect("text"), address(5));
    let place = ["--data-dir", own_text, "--listen", &listen, "--runtimes", "process", "--name", "w", "--plaintext"];
    let mut worker = Heard::start("goat-worker", &[&["run", "--managers", &address_], &place[..]].concat(), dir.path());
    worker.says("READY=1");
    assert_eq!(worker.says("STATUS="), "STATUS=no session: seeks a manager, 0 tasks");
    let mut manager = manager(&address_, &data, dir.path());
    manager.says("READY=1");
    worker.says(&format!("STATUS=session with {address_} in term 2"));
    let goatctl = ["--plaintext", "-H", &address_];
    let task = ["run", "--driver", "process", "--name", "web", "sleep", "600"];
    succeeded("goatctl", &[&goatctl[..], &task[..]].concat());
    worker.says(&format!("STATUS=session with {address_} in term 2, 1 task"));
    let beside = beside(worker.child.id(), own_text);
    assert_eq!(beside.len(), 2, "the watchdog and a supervisor: {beside:?}");
    for pid in beside {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it is ours");
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_"), "{environment}");
    }
    worker.check_watchdog();
    succeeded("goatctl", &[&goatctl[..], &["service", "rm", "web"]].concat());
    worker.check_stop();
}

/// Processes with the data directory in their command line, but the agent itself.
fn beside(agent: u32, data_dir: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_dir = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != agent && line.starts_with(b"goat-worker\0") && String::from_utf8_lossy(&line).contains(data_dir)
    };
    numbers.filter(has_dir).collect()
}
