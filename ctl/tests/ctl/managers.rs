//! `goatctl manager`.

use std::sync::Arc;

use goat_proto::v1::Peer;

use crate::fake::World;
use crate::run::goatctl;
use crate::server::Manager;

/// m1 leads, m2 and m3 follow, m4 has joined and catches up.
fn world() -> Arc<World> {
    let world = World::new();
    world.change(|state| {
        for (id, role) in [(1, "leader"), (2, "follower"), (3, "follower"), (4, "learner")] {
            state.peers.push(Peer {
                id,
                name: format!("m{id}"),
                role: role.into(),
                standing: "voter".into(),
                reachable: id != 3,
                last_log_index: 100 - 10 * id,
                version: "0.1.0".into(),
                round_trip_us: if id == 4 { 303_250 } else { 0 },
                fsync_us: if id == 4 { 2_550 } else { 0 },
                ..Peer::default()
            });
        }
    });
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_who_is_on_the_way_and_how_far_behind() {
    let world = world();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "manager ls").await;
    let rows: Vec<Vec<&str>> = ended.lines().iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["1", "m1", "leader", "yes", "0", "-", "-", "0.1.0"], "{ended:?}");
    assert_eq!(rows[3], ["3", "m3", "follower", "no", "-", "-", "-", "-"], "{ended:?}");
    let catching_up = ["4", "m4", "learner,", "catching", "up", "yes", "30", "303", "ms", "2.5", "ms", "0.1.0"];
    assert_eq!(rows[4], catching_up, "{ended:?}");
    assert_eq!(goatctl(&manager.address, "manager ls -q").await.lines(), ["m1", "m2", "m3", "m4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_waited_for_and_an_even_number_is_warned_of() {
    let world = world();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "manager promote m4").await;
    assert_eq!((ended.code, ended.lines()), (0, vec!["m4  votes"]), "{ended:?}");
    assert!(ended.stderr.contains("warning: 4 voting managers"), "{ended:?}");
    let ended = goatctl(&manager.address, "manager demote m4").await;
    assert_eq!((ended.lines(), ended.stderr.as_str()), (vec!["m4  does not vote any more"], ""), "{ended:?}");
    let ended = goatctl(&manager.address, "manager rm m4 -o json").await;
    assert_eq!((&ended.json()["standing"], &ended.json()["settled"]), (&"removed".into(), &true.into()), "{ended:?}");
    assert_eq!(world.state.lock().peers.len(), 3);
    let ended = goatctl(&manager.address, "manager rm m9").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("no manager \"m9\""), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_every_member_is_shown_as_far_as_it_is_known() {
    let world = world();
    world.change(|state| {
        let inventory = state.nodes[0].inventory.get_or_insert_default();
        inventory.agent_version = "0.0.9".into();
    });
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "version").await;
    let rows: Vec<Vec<&str>> = ended.lines().iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["goatctl", env!("CARGO_PKG_VERSION")]);
    assert_eq!(rows[1], ["MEMBER", "ROLE", "VERSION", "FORMAT"]);
    assert_eq!(rows[2], ["m1", "manager", "0.1.0", "-"]);
    assert_eq!(rows[6], ["w1", "worker", "0.0.9", "-"]);
    let shown = goatctl(&manager.address, "version -o json").await.json();
    assert_eq!(
        (&shown["managers"][2]["version"], &shown["workers"][0]["version"]),
        (&serde_json::Value::Null, &"0.0.9".into())
    );
}
