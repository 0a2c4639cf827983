//! A process task's supervisor, the real program: nothing runs that is not written down.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use goat_core::model::{Driver, OnDisconnect, ServiceId, TaskId};
use goat_worker::task::TaskMeta;

const SOON: Duration = Duration::from_secs(60);

/// A task's directory, with a program that leaves a file behind as soon as it runs.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(argv: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let meta = TaskMeta {
            task: TaskId::from_random(1),
            service_id: ServiceId::from_random(1),
            service: "web".into(),
            slot: 1,
            attempt: 1,
            fencing_token: 1,
            spec_version: 1,
            driver: Driver::Process,
            on_disconnect: OnDisconnect::Keep,
            stop_grace_ms: 1_000,
            health: None,
        };
        let launch = serde_json::json!({ "version": 1, "meta": meta, "argv": argv, "env": { "WORD": "said" } });
        std::fs::create_dir(dir.path().join("work")).expect("made");
        std::fs::write(dir.path().join("spec.json"), launch.to_string()).expect("written");
        make_fifo(&dir.path().join("alive"));
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn supervise(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goat-worker"));
        command.arg("supervise").arg(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().expect("it starts")
    }
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made");
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn child_of(pid: u32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Whether nothing of that number runs any more.
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[test]
fn a_program_does_not_run_before_its_process_is_written_down() {
    let world = World::new(&["touch", "ran"]);
    // Whoever opens this to write waits for a reader: the supervisor stands between the process and its being known.
    make_fifo(&world.path("state.new"));
    let mut supervisor = world.supervise();
    let process = wait_for("a process for the task", || child_of(supervisor.id()));
    supervisor.kill().expect("killed");
    supervisor.wait().expect("collected");
    wait_for("the process is gone", || is_gone(process).then_some(()));
    assert!(!world.path("work/ran").exists());
    assert!(!world.path("state.json").exists());
}

#[test]
fn a_program_runs_with_its_environment_and_its_end_is_written_down() {
    let world = World::new(&["sh", "-c", "echo $WORD $0 $1; touch ran; exit 3", "a b", "--help"]);
    let ended = world.supervise().wait_with_output().expect("collected");
    let word = String::from_utf8(ended.stdout).expect("text");
    assert!(ended.status.success() && word.contains("started"), "{word}");
    assert!(world.path("work/ran").exists());
    assert!(std::fs::read_to_string(world.path("log")).expect("there").contains("said a b --help"));
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("state.json")).expect("there")).expect("JSON");
    assert_eq!(state["exit"]["code"], 3, "{state}");
}

#[test]
fn a_program_that_cannot_be_run_leaves_no_process_behind_and_says_why() {
    for (program, reason) in [("/no/such/program", "command-not-found"), ("/dev/null", "permission-denied")] {
        let world = World::new(&[program]);
        let ended = world.supervise().wait_with_output().expect("collected");
        let word = String::from_utf8(ended.stdout).expect("text");
        assert!(!ended.status.success() && word.contains(reason) && word.contains(program), "{word}");
        assert!(!world.path("state.json").exists());
    }
}
