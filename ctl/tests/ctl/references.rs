//! Whose name is printed, command lines that are not what was meant, and times.

use goat_proto::v1::{Event, Node};
use serde_json::json;

use crate::fake::{World, node};
use crate::run::goatctl;
use crate::server::Manager;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_name_is_printed_and_not_what_was_typed() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for (line, says) in [
        ("service scale service00101 2 --monitor 0", "service00101  web  converged  2/2 running"),
        ("service update service00101 --replicas 1 -d", "service00101  web  accepted  1/1 running"),
        ("node drain node0000000w1", "node0000000w1  w1  drained  0 tasks"),
        ("service rm service00101", "service00101  web  removed"),
    ] {
        let ended = goatctl(&manager.address, line).await;
        assert_eq!(ended.lines(), [says], "{line}");
        assert!(!ended.stderr.contains("service00101:"), "{line}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_are_removed_at_once_and_one_that_cannot_be_does_not_keep_the_others() {
    let world = World::new();
    let down = |name: &str| Node { state: "down".into(), ..node(name, 0) };
    world.change(|state| state.nodes.extend([down("w2"), down("w3"), down("w4")]));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "node rm w2 w1 node0000000w3").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stdout, "node0000000w2  w2  removed\nnode0000000w3  w3  removed\n");
    assert!(ended.stderr.contains("error: node \"w1\" is ready"), "{ended:?}");
    let ended = goatctl(&manager.address, "node rm w4 -o json").await;
    assert_eq!(ended.json(), json!({ "id": "node0000000w4", "name": "w4", "removed": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_without_any_change_says_so_and_fails() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for line in
        ["service update web", "service update web --", "service update web -d", "service update web --monitor 1s"]
    {
        let ended = goatctl(&manager.address, line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line}: {ended:?}");
        assert!(ended.stderr.starts_with("error: nothing is to be changed in \"web\""), "{line}: {ended:?}");
    }
    assert!(world.state.lock().updates.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_option_is_no_image_and_an_option_after_the_image_is_pointed_out() {
    let world = World::new();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --name x --replica 3 echo:1").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("unexpected argument '--replica'") && ended.stderr.contains("--replicas"),
        "{ended:?}"
    );
    assert!(world.state.lock().services.is_empty());

    let ended = goatctl(&manager.address, "run --monitor 0 --name x echo:1 serve --wait-timeout 10s").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("note: --wait-timeout comes after the image and goes to the program"), "{ended:?}");
    let ended = goatctl(&manager.address, "run --monitor 0 --name y echo:1 -- serve --name 10s").await;
    assert!(!ended.stderr.contains("note:"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_little_to_be_meant_and_what_does_not_reach_running_tasks_is_said() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run -d --name x --memory 512 echo:1").await;
    assert!(ended.code == 0 && ended.stderr.contains("warning: --memory is 512 bytes"), "{ended:?}");
    let ended = goatctl(&manager.address, "run -d --name y --memory 512m echo:1").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let ended = goatctl(&manager.address, "service update web --monitor 0 --label traefik.enable=true").await;
    assert!(ended.code == 0 && ended.stderr.contains("note: tasks that run keep their labels"), "{ended:?}");
    let ended = goatctl(&manager.address, "service update web --monitor 0 --label a=b --image echo:2").await;
    assert!(ended.code == 0 && !ended.stderr.contains("note:"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_begin_at_a_time_too() {
    let world = World::new();
    let manager = Manager::start(&world);
    let at = |index, at_ms| Event { index, at_ms, name: "web.1".into(), ..Event::default() };
    world.emit([at(7, 1_700_000_000_000), at(8, 1_700_000_060_000)]);
    for (since, count) in [("2023-11-14T22:13:21Z", 1), ("2023-11-14T22:13:20Z", 2), ("10m", 0)] {
        let ended = goatctl(&manager.address, &format!("events --since {since}")).await;
        assert_eq!(ended.lines().len(), count, "{since}: {ended:?}");
    }
    let ended = goatctl(&manager.address, "events --since 8").await;
    assert!(ended.code == 2 && ended.stderr.contains("--since-index"), "{ended:?}");
}
