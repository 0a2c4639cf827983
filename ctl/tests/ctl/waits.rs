//! Waits that do not end well, or are not wanted: each says that the change stays, and what goes on.

use serde_json::json;
use tonic::Code;

use crate::fake::{Fate, World};
use crate::run::{goatctl, start};
use crate::server::{Fault, Manager};

const STAYS: Fate = Fate::Stay("running", "");

#[tokio::test(flavor = "multi_thread")]
async fn detached_every_change_returns_as_soon_as_it_is_accepted() {
    let world = World::new().with_service("web", 1);
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    for (line, says) in [
        ("service scale web 2 -d", "service00101  web  accepted  0/2 running"),
        ("service update web --image echo:2 -d", "service00101  web  accepted  0/2 running"),
        ("node drain w1 -d", "node0000000w1  w1  draining  2 tasks"),
        ("service rm web -d", "service00101  web  being removed"),
    ] {
        let ended = goatctl(&manager.address, line).await;
        assert_eq!((ended.lines(), ended.stderr.as_str()), (vec![says], ""), "{line}");
    }
    assert!(world.state.lock().services[0].removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_shown_any_more_was_accepted_all_the_same_and_is_named() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for (line, text) in [
        ("service scale web 2 -d --timeout 1s", "hint: the change was accepted (service service00101)"),
        ("node drain w1 -d --timeout 1s", "hint: the change was accepted (node node0000000w1)"),
    ] {
        manager.always(None);
        manager.after(1, Fault::Refuse(Code::Unavailable, "no leader"));
        let ended = goatctl(&manager.address, line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (5, ""), "{line}: {ended:?}");
        assert!(ended.stderr.contains(text), "{line}: {ended:?}");
    }
    assert_eq!(world.state.lock().services[0].replicas_desired, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_needs_no_manager_any_more() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    // As long as a command may take here in all, and more.
    let mut running = start(&manager.address, "run --name web --timeout 10m echo:1");
    running.until_it_says("1 preparing").await;
    manager.always(Some(Fault::Silent));
    running.interrupt();
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("detached; the service goes on converging"), "{ended:?}");
    assert!(ended.stdout.contains("web  accepted  0/1 running"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_drain_and_the_node_goes_on_draining() {
    let world = World::new().with_service("web", 2);
    world.change(|state| state.fate = STAYS);
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "node drain w1 --timeout 10m");
    running.until_it_says("w1: 2 of 2 tasks left").await;
    manager.always(Some(Fault::Silent));
    running.interrupt();
    let ended = running.end().await;
    assert_eq!(ended.lines(), ["node0000000w1  w1  draining  2 tasks"]);
    assert!(ended.stderr.contains("detached; the node goes on draining"), "{ended:?}");
    assert_eq!(world.state.lock().nodes[0].availability, "drain");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ctrl_c_ends_the_removal_of_many_and_all_of_them_go_on() {
    let world = World::new().with_service("web", 1).with_service("api", 1).with_service("db", 1);
    world.change(|state| state.fate = STAYS);
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "service rm web api db");
    running.until_it_says("web: 1 to stop").await;
    running.interrupt();
    let ended = running.end().await;
    let states: Vec<_> = ended.lines().iter().map(|line| line.split("  ").nth(2)).collect();
    assert_eq!(states, [Some("being removed"); 3], "{ended:?}");
    assert!(world.state.lock().services.iter().all(|service| service.removed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_and_a_drain_that_take_too_long_end_with_four_and_say_what_is_left() {
    let world = World::new().with_service("web", 2);
    world.change(|state| state.fate = STAYS);
    let manager = Manager::start(&world);
    for (line, missing, goes_on) in [
        (
            "node drain w1 --wait-timeout 300ms",
            "2 tasks are still on w1: web.1, web.2",
            "hint: the node goes on draining",
        ),
        ("service rm web --wait-timeout 300ms", "2 tasks of web have not stopped", "hint: the removal goes on"),
    ] {
        let ended = goatctl(&manager.address, line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{line}: {ended:?}");
        assert!(ended.stderr.contains(&format!("error: timed out after 300ms: {missing}")), "{line}: {ended:?}");
        assert!(ended.stderr.contains(goes_on), "{line}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_activated_in_the_middle_is_waited_for_no_longer() {
    let world = World::new().with_service("web", 2);
    world.change(|state| state.fate = STAYS);
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "node drain w1");
    running.until_it_says("w1: 2 of 2 tasks left").await;
    assert_eq!(goatctl(&manager.address, "node activate w1").await.code, 0);
    let ended = running.end().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("error: w1 was activated again meanwhile"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_says_nothing_but_the_id_and_json_is_for_removals_too() {
    let world = World::new();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --monitor 0 -q --name web echo:1").await;
    assert_eq!((ended.lines(), ended.stderr.as_str()), (vec!["service00101"], ""));
    let ended = goatctl(&manager.address, "service rm web -o json").await;
    assert_eq!(ended.json(), json!([{ "id": "service00101", "name": "web", "removed": true }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_meanwhile_is_kept_and_the_change_is_made_to_it() {
    let world = World::new().with_service("web", 1);
    world.change(|state| state.rival = Some(("THEIRS", "1")));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service update web --monitor 0 --image echo:2 -e OURS=1").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let state = world.state.lock();
    let spec = state.services[0].spec.clone().expect("it has one");
    assert_eq!((spec.image.as_str(), spec.env.len(), state.updates.len()), ("echo:2", 2, 2));
    assert_ne!(state.updates[0].request_id, state.updates[1].request_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_the_same_thing_conflict_and_the_second_changes_nothing() {
    let world = World::new().with_service("web", 1);
    world.change(|state| state.rival = Some(("K", "theirs")));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service update web --image echo:2 -e K=ours").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("web was changed by somebody else meanwhile: --env K"), "{ended:?}");
    assert_eq!(world.state.lock().services[0].spec.clone().expect("it has one").image, "echo:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_never_gets_its_turn_ends_with_its_time() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let stale = [Fault::None, Fault::Refuse(Code::Aborted, "it has changed meanwhile")];
    manager.fail(std::iter::repeat_n(stale, 100).flatten());
    let ended = goatctl(&manager.address, "service update web --image echo:2 --timeout 1s").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("error: web is changed by others all the time"), "{ended:?}");
}
