//! `goatctl operator debug`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use goat_proto::v1::{DebugReport, ServiceSpec};
use tempfile::TempDir;

use crate::fake::World;
use crate::run::goatctl;
use crate::server::Manager;

const SECRET: &str = "s3cret-of-the-database";

fn unpacked(archive: &Path, dir: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("xzvf").arg(archive).arg("-C").arg(dir).output().expect("there is tar");
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_has_who_answered_names_who_did_not_and_tells_no_secret() {
    let world = World::new();
    world.change(|state| {
        let env = [("DB".to_owned(), SECRET.to_owned())].into();
        state.create(ServiceSpec { name: "web".into(), image: "web:1".into(), replicas: 1, env, ..Default::default() });
        let log_lines = vec![format!("a task failed error=\"cannot log in with {SECRET}\"")];
        let one = DebugReport {
            id: 1,
            name: "m1".into(),
            metrics: "goat_raft_term 1\n".into(),
            log_lines,
            ..Default::default()
        };
        let two = DebugReport { id: 2, name: "m2".into(), error: "it does not answer".into(), ..Default::default() };
        state.reports = vec![two, one];
    });
    let manager = Manager::start(&world);
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().join("report.tar.gz");
    let words = format!("operator debug -f {}", path.display());
    let ended = goatctl(&manager.address, &words).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("1 of 2 managers"), "{ended:?}");
    assert!(ended.stderr.contains("m2") && ended.stderr.contains("it does not answer"), "{ended:?}");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);

    let names = unpacked(&path, dir.path());
    for name in ["summary.txt", "cluster/services.json", "cluster/events.json", "managers/m1/log.txt"] {
        assert!(names.contains(&format!("goat-debug/{name}")), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("m2")), "{names:?}");
    let text = |name: &str| fs::read_to_string(dir.path().join("goat-debug").join(name)).expect("it is there");
    assert!(text("summary.txt").contains("manager m2 () is missing: it does not answer"), "{}", text("summary.txt"));
    assert_eq!(text("managers/m1/log.txt"), "a task failed error=\"cannot log in with (redacted)\"\n");
    assert!(text("cluster/services.json").contains("\"DB\": \"(redacted)\""), "{}", text("cluster/services.json"));

    let again = goatctl(&manager.address, &words).await;
    assert!(again.code == 1 && again.stderr.contains("is there already"), "{again:?}");
}
