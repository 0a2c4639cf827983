//! Files that people write, and those that an earlier process left.

use std::fs;

use goat_core::lease::WorkerLease;
use goat_core::model::{Driver, OnDisconnect, ServiceId, TaskId};
use goat_worker::lease::{Lease, LeaseFile};
use goat_worker::task::{Record, TaskMeta};
use tempfile::TempDir;

thread_local! {
    static DIR: TempDir = tempfile::tempdir().expect("there is room for a directory");
}

pub(super) fn worker_config_samples() -> Vec<Vec<u8>> {
    let text = "name = \"w1\"\nmanagers = [\"10.0.0.1:7700\"]\ndata_dir = \"/var/lib/goat\"\nadvertise = \"10.0.0.9\"\n\
                runtimes = [\"docker\", \"process\"]\nlabels = { zone = \"a\" }\nreserve_memory = \"512MiB\"\n";
    vec![text.as_bytes().to_vec(), b"runtime_down_after = \"10m\"\n".to_vec()]
}

pub(super) fn worker_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(options) = toml::from_str::<goat_worker::config::Options>(text) {
        let _ = options.into_config();
    }
}

pub(super) fn manager_config_samples() -> Vec<Vec<u8>> {
    let text = "name = \"m1\"\nlisten = \"10.0.0.1:7700\"\nadvertise = \"10.0.0.1:7700\"\ndata_dir = \"/var/lib/goat\"\n\
                lease_ttl_ms = 2500\nworker_heartbeat_ms = 500\n";
    vec![text.as_bytes().to_vec()]
}

pub(super) fn manager_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(options) = toml::from_str::<goat_manager::config::Options>(text) {
        let _ = options.into_config();
    }
}

fn meta() -> TaskMeta {
    TaskMeta {
        task: TaskId::from_random(1),
        service_id: ServiceId::from_random(1),
        service: "web".into(),
        slot: 1,
        attempt: 1,
        fencing_token: 9,
        driver: Driver::Process,
        on_disconnect: OnDisconnect::Stop,
        stop_grace_ms: 10_000,
        spec_version: 4,
        health: None,
    }
}

pub(super) fn journal_samples() -> Vec<Vec<u8>> {
    DIR.with(|dir| {
        let path = dir.path().join("sample.json");
        goat_worker::durable::write_unsynced(&path, &Record::new(meta(), 1)).expect("it is written");
        vec![fs::read(&path).expect("it is there")]
    })
}

pub(super) fn journal(bytes: &[u8]) {
    DIR.with(|dir| {
        let path = dir.path().join("record.json");
        fs::write(&path, bytes).expect("it is written");
        let _ = goat_worker::durable::read::<Record>(&path);
    });
}

pub(super) fn lease_samples() -> Vec<Vec<u8>> {
    DIR.with(|dir| {
        let lease = Lease::open(dir.path()).expect("an empty directory is fine");
        let WorkerLease { sent_ms, ttl_ms } = WorkerLease { sent_ms: 1_000, ttl_ms: 2_500 };
        lease.granted(sent_ms, ttl_ms);
        vec![fs::read(dir.path().join("lease.json")).expect("it is there")]
    })
}

/// The watchdog reads it: a wrong file must end the lease and not the watchdog.
pub(super) fn lease(bytes: &[u8]) {
    DIR.with(|dir| {
        fs::write(dir.path().join("lease.json"), bytes).expect("it is written");
        if let Ok(Some(file)) = LeaseFile::read(dir.path()) {
            let _ = (file.end_ms(true), file.end_ms(false));
        }
    });
}
