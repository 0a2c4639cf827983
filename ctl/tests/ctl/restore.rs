//! `goatctl operator snapshot restore`: what it shows, what it asks for, and when it asks for nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use goat_core::model::ServiceId;
use goat_proto::v1::{Service, ServiceSpec};
use tempfile::TempDir;
use tonic::Code;

use crate::fake::World;
use crate::run::goatctl;
use crate::server::{Fault, Manager};
use crate::snapshot::{cluster, file_with, file_with_large};

/// Services `a` with two replicas and `b` with one are in the file; `a` has one, `b` is gone, and there is `c`.
fn scene() -> (TempDir, PathBuf, Arc<World>) {
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().join("state.goat");
    fs::write(&path, file_with(&[(1, "a", 2), (2, "b", 1)])).expect("there is room");
    let world = World::new();
    world.change(|state| {
        state.status.cluster_id = cluster();
        for (number, name) in [(1, "a"), (3, "c")] {
            let spec = ServiceSpec { name: name.into(), image: "echo:1".into(), replicas: 1, ..Default::default() };
            let id = ServiceId::from_random(number).to_string();
            state.services.push(Service { id, spec: Some(spec), version: 40 + number, ..Default::default() });
        }
    });
    (dir, path, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_shown_first_and_done_when_it_is_said_so() {
    let (_dir, path, world) = scene();
    let manager = Manager::start(&world);
    let restore = format!("operator snapshot restore {}", path.display());
    let ended = goatctl(&manager.address, &restore).await;
    assert_eq!(ended.code, 2, "nothing was done: {ended:?}");
    for line in ["a is changed back: replicas", "b comes back: it was removed", "c is untouched: it is not in the file"]
    {
        assert!(ended.stdout.contains(line), "{line}: {ended:?}");
    }
    assert!(
        ended.stderr.contains("error: nothing was changed") && ended.stderr.contains("repeat with --yes"),
        "{ended:?}"
    );
    let ended = goatctl(&manager.address, &format!("{restore} -o json")).await;
    assert!(ended.code == 2 && ended.stdout.contains("\"decisions\""), "{ended:?}");
    assert!(world.state.lock().restores.is_empty());

    let ended = goatctl(&manager.address, &format!("{restore} --yes --exact")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("c is removed") && ended.stdout.contains("3 services changed"), "{ended:?}");
    let asked = world.state.lock().restores.pop().expect("it was asked for");
    let seen: Vec<_> = asked.changes.iter().map(|change| (change.seen_version, change.spec.is_some())).collect();
    assert_eq!(seen, [(41, true), (0, true), (43, false)]);

    let ended = goatctl(&manager.address, &format!("{restore} b -o json -y")).await;
    assert_eq!(ended.json()["decisions"].as_array().map(Vec::len), Some(1), "{ended:?}");
    assert!(ended.json()["index"].is_u64(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_where_it_must_not_be() {
    let (_dir, path, world) = scene();
    let manager = Manager::start(&world);
    let restore = format!("operator snapshot restore {} --yes", path.display());
    let ended = goatctl(&manager.address, &format!("{restore} nobodys")).await;
    assert!(ended.code == 1 && ended.stderr.contains("no service nobodys"), "{ended:?}");
    world.change(|state| state.status.cluster_id = "another00000".into());
    let ended = goatctl(&manager.address, &restore).await;
    assert!(ended.code == 1 && ended.stderr.contains("--from-other-cluster"), "{ended:?}");
    assert!(world.state.lock().restores.is_empty());
    let ended = goatctl(&manager.address, &format!("{restore} --from-other-cluster")).await;
    assert_eq!(ended.code, 0, "{ended:?}");

    fs::write(&path, b"").expect("there is room");
    let ended = goatctl(&manager.address, &restore).await;
    assert!(ended.code == 1 && ended.stderr.contains("it is empty"), "{ended:?}");
    let dir = path.parent().expect("it has one").display();
    let ended = goatctl(&manager.address, &format!("operator snapshot restore {dir}")).await;
    assert!(ended.code == 1 && ended.stderr.contains("cannot be read"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_saw_an_older_state_looks_again_and_does_the_same() {
    let (_dir, path, world) = scene();
    let manager = Manager::start(&world);
    let restore = format!("operator snapshot restore {} --yes", path.display());
    // Status and services are read before.
    let stale = Fault::Refuse(Code::Aborted, "version 9, seen 8");
    manager.fail([Fault::None, Fault::None, stale.clone()]);
    let ended = goatctl(&manager.address, &restore).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.state.lock().restores.len(), 1);

    let often = std::iter::repeat_n([Fault::None, stale], 5).flatten();
    manager.fail([Fault::None].into_iter().chain(often));
    let ended = goatctl(&manager.address, &restore).await;
    assert!(ended.code == 1 && ended.stderr.contains("nothing was restored"), "{ended:?}");
}

/// A change of the cluster has at most 1 MiB, and twenty services of 60 KB are more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_one_change_is_restored_in_parts() {
    let (_dir, path, world) = scene();
    let names: Vec<String> = (10..30).map(|number| format!("large-{number}")).collect();
    let services: Vec<_> = (10..).zip(&names).map(|(number, name)| (number, name.as_str(), 1)).collect();
    fs::write(&path, file_with_large(&services, 60_000)).expect("there is room");
    let manager = Manager::start(&world);
    let restore = format!("operator snapshot restore {} --yes", path.display());
    let ended = goatctl(&manager.address, &restore).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("20 services changed"), "{ended:?}");
    let parts = std::mem::take(&mut world.state.lock().restores);
    assert_eq!(parts.iter().map(|part| part.changes.len()).collect::<Vec<_>>(), [8, 8, 4]);
    let ids: std::collections::BTreeSet<_> = parts.iter().map(|part| part.request_id.clone()).collect();
    assert_eq!(ids.len(), 3, "each part is a request of its own");

    // The second part sees another state at each attempt: what the first has changed stays, and is said.
    let stale = Fault::Refuse(Code::Aborted, "version 9, seen 8");
    let again = std::iter::repeat_n([stale, Fault::None], 5).flatten();
    manager.fail([Fault::None, Fault::None, Fault::None].into_iter().chain(again));
    let ended = goatctl(&manager.address, &restore).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("8 of 20 services were restored"), "{ended:?}");
}
