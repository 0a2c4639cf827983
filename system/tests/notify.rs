//! What systemd hears of a program that stops answering: the test runs itself as that program.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use goat_system::notify;

const TEST: &str = "a_program_that_does_not_answer_is_not_vouched_for";
/// The program answers while this file is there.
const ANSWERS: &str = "GOAT_NOTIFY_CHILD_ANSWERS";
const INTERVAL: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(30);

fn child(answers: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(notify::run(|| async { answers.exists().then(|| "well".to_owned()) }));
}

/// Hears until a message has the line, or nothing came for `silence`.
fn heard(ear: &UnixDatagram, line: &str, silence: Duration) -> bool {
    ear.set_read_timeout(Some(silence)).expect("it is above 0");
    let deadline = Instant::now() + DEADLINE;
    let mut message = [0; 4_096];
    while let Ok(length) = ear.recv(&mut message) {
        let text = String::from_utf8_lossy(&message[..length]);
        if text.lines().any(|told| told == line) {
            return true;
        }
        assert!(Instant::now() < deadline, "it talks on without {line}: {text}");
    }
    false
}

#[test]
fn a_program_that_does_not_answer_is_not_vouched_for() {
    if let Some(answers) = std::env::var_os(ANSWERS) {
        return child(answers.as_ref());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, answers) = (dir.path().join("notify"), dir.path().join("answers"));
    let ear = UnixDatagram::bind(&socket).expect("bound");
    let mut program = Command::new(std::env::current_exe().expect("a test has a path"))
        .args([TEST, "--exact", "--nocapture"])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", INTERVAL.as_micros().to_string())
        .env(ANSWERS, &answers)
        .spawn()
        .expect("it starts");
    let never_ready = heard(&ear, "READY=1", INTERVAL * 4);
    std::fs::write(&answers, "").expect("written");
    let is_ready = heard(&ear, "READY=1", DEADLINE);
    let beats = heard(&ear, "WATCHDOG=1", DEADLINE) && heard(&ear, "WATCHDOG=1", DEADLINE);
    std::fs::remove_file(&answers).expect("removed");
    // One may be on its way.
    let deadline = Instant::now() + DEADLINE;
    while heard(&ear, "WATCHDOG=1", INTERVAL * 2) && Instant::now() < deadline {}
    let is_silent = Instant::now() < deadline;
    std::fs::write(&answers, "").expect("written");
    let beats_again = heard(&ear, "WATCHDOG=1", DEADLINE);
    program.kill().expect("it is ours");
    program.wait().expect("it was started");
    assert_eq!((never_ready, is_ready, beats, is_silent, beats_again), (false, true, true, true, true));
}
