//! A manager of which a part is missing or stands still ends by itself: without it, another one leads.

use std::os::unix::net::UnixDatagram;

use goat_manager::duty::Duty;

use crate::cluster::Cluster;

const FAULT: &str = "GOAT_MANAGER_INJECT";

/// Starts a lone manager that has every duty, once for each of them, with that fault. What it said each time, and its exit code.
fn ends_with(kind: &str, subnet: u8) -> Vec<(Duty, Option<i32>, String)> {
    let dir = tempfile::tempdir().expect("there is room");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (backups, socket) = (path("backups"), path("notify"));
    std::fs::create_dir(&backups).expect("there is room");
    let systemd = UnixDatagram::bind(&socket).expect("there is room");
    // One that does not read would block who writes to it.
    std::thread::spawn(move || while systemd.recv(&mut [0; 4_096]).is_ok() {});
    let http = format!("127.84.{subnet}.1:0");
    let more = ["--backup-dir", &backups, "--backup-every", "1h", "--http-listen", &http];
    let mut cluster = Cluster::of(1, subnet, &more);
    let manager = &mut cluster.managers[0];
    let mut ends = Vec::new();
    for duty in Duty::ALL {
        manager.kill();
        let before = manager.log().len();
        manager.start_with(&[(FAULT, &format!("{kind}:{}", duty.as_str())), ("NOTIFY_SOCKET", &socket)]);
        let (code, log) = manager.ended();
        ends.push((duty, code, log[before..].to_owned()));
    }
    ends
}

#[test]
fn a_panic_in_any_duty_ends_the_process_at_once_and_names_it() {
    for (duty, code, said) in ends_with("panic", 33) {
        let name = duty.as_str();
        assert_eq!(code, None, "it was to abort: {said}");
        assert!(said.contains(&format!("the task {name:?} of this manager panicked")), "{name}: {said}");
    }
}

#[test]
fn a_duty_that_ends_early_ends_the_process_and_is_named() {
    for (duty, code, said) in ends_with("end", 34) {
        let name = duty.as_str();
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains(&format!("the duty {name:?} has ended: this manager ends itself")), "{name}: {said}");
    }
}

/// The runtime blocked, or a lock of the state held for good: no thread of the manager's moves, and SIGTERM is not heard.
fn ends_where_it_stands_still(what: &str, subnet: u8) {
    let mut cluster = Cluster::of(1, subnet, &[]);
    let manager = &mut cluster.managers[0];
    manager.kill();
    manager.start_with(&[(FAULT, &format!("stall:{what}"))]);
    let (code, said) = manager.ended();
    assert_eq!(code, None, "it was to abort: {said}");
    assert!(said.contains("has not moved for 10 s: this process ends itself"), "{said}");
}

#[test]
fn a_manager_whose_runtime_stands_still_ends_by_itself() {
    ends_where_it_stands_still("runtime", 35);
}

#[test]
fn a_manager_whose_state_is_locked_for_good_ends_by_itself() {
    ends_where_it_stands_still("locks", 36);
}
