//! Texts that people read when something cannot be done, asserted whole.

use goat_core::model::{
    Availability, ClusterId, Constraint, Driver, ImageInfo, Inventory, NodeId, NodeState, Protocol, Resources,
    ServiceId, ServiceSpec,
};
use goat_core::scheduler::{MAX_REASON_BYTES, describe, describe_kinds, explain};
use goat_core::state::command::Action;

use crate::support::{GIB, Leader, needing, roomy, sized, spec, tcp};

const WEB: ServiceId = ServiceId::from_random(1);

/// Why the only task of this service cannot be placed, with counts. Its row says the same without.
fn why(leader: &mut Leader, wanted: ServiceSpec) -> String {
    leader.service(1, wanted);
    leader.settle();
    let task = leader.newest(WEB, 1);
    let told = task.error.clone().expect("it is pending and says why");
    let counts = explain(&leader.state, task.id);
    assert_eq!(describe_kinds(&counts), told, "explain says the same");
    leader.assert_settled();
    describe(&counts)
}

#[test]
fn without_nodes_it_says_that_there_is_none() {
    assert_eq!(why(&mut Leader::new(), spec("web", 1)), "no node fits: there is no node");
}

#[test]
fn each_filter_says_what_was_wanted_and_how_many_nodes_lack_it() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(3);
    leader.set_state(nodes[0], NodeState::Disconnected);
    leader.done(Action::SetAvailability { node: nodes[1], availability: Availability::Drain });
    leader.node(3, Inventory { conditions: ["disk-pressure".into()].into(), ..roomy() });
    leader.node(4, Inventory { drivers: [Driver::Process].into(), ..roomy() });
    leader.node(5, sized(1_500, 4 * GIB));
    leader.node(6, sized(4_000, GIB - 1));
    leader.node(7, sized(4_000, 0));
    assert_eq!(
        why(&mut leader, ServiceSpec { reservations: needing(2_250, GIB + GIB / 2), ..spec("web", 1) }),
        "no node fits: 1 not ready, 1 draining, 1 with a problem of its own (see `goatctl node ls`), \
         1 without the docker driver, 1 lack CPU (need 2.250), 2 lack memory (need 1.5 GiB)"
    );
}

#[test]
fn constraints_and_drivers_are_named() {
    let mut leader = Leader::new();
    leader.node(1, Inventory { drivers: [Driver::Docker].into(), ..roomy() });
    let mut process = spec("web", 1);
    (process.driver, process.image, process.command) = (Driver::Process, String::new(), vec!["true".into()]);
    assert_eq!(why(&mut leader, process), "no node fits: 1 without the process driver");

    let mut leader = Leader::new();
    leader.nodes(2);
    let mut wanted = spec("web", 1);
    let constraint = |label: &str, equal, value: &str| Constraint { label: label.into(), equal, value: value.into() };
    wanted.placement.constraints = vec![constraint("zone", true, "a"), constraint("node.name", false, "w1")];
    assert_eq!(why(&mut leader, wanted), "no node fits: 2 outside the constraint zone==a, node.name!=w1");
}

#[test]
fn ports_in_use_are_named_with_their_protocol() {
    let mut leader = Leader::new();
    leader.nodes(2);
    let ports = vec![tcp(7777), goat_core::model::Port { protocol: Protocol::Udp, ..tcp(53) }];
    leader.service(9, ServiceSpec { ports: ports.clone(), ..spec("first", 2) });
    leader.settle();
    assert_eq!(
        why(&mut leader, ServiceSpec { ports, ..spec("web", 1) }),
        "no node fits: 2 have port 7777 or 53/udp taken"
    );
}

#[test]
fn an_image_that_is_not_there_counts_as_disk() {
    let mut leader = Leader::new();
    let image = ImageInfo { reference: "registry.example/app:1".into(), size_bytes: 3 * GIB };
    leader.node(1, Inventory { images: vec![image], disk_free_bytes: GIB, ..sized(10, GIB) });
    leader.node(2, Inventory { disk_free_bytes: GIB, ..roomy() });
    assert_eq!(
        why(&mut leader, ServiceSpec { reservations: needing(20, 0), ..spec("web", 1) }),
        "no node fits: 1 lack CPU (need 0.020), 1 lack disk (need 0 B and 3.0 GiB for the image where it is absent)"
    );

    let mut leader = Leader::new();
    leader.nodes(1);
    let reservations = Resources { disk_bytes: 11 * GIB, ..Resources::ZERO };
    assert_eq!(
        why(&mut leader, ServiceSpec { reservations, ..spec("web", 1) }),
        "no node fits: 1 lack disk (need 11.0 GiB and 0 B for the image where it is absent)"
    );
}

#[test]
fn the_most_per_node_is_named() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut wanted = spec("web", 3);
    wanted.placement.max_per_node = 2;
    leader.service(1, wanted);
    leader.settle();
    let pending = leader.state.pending().next().and_then(|id| leader.state.task(id));
    assert_eq!(
        pending.and_then(|task| task.error.as_deref()),
        Some("no node fits: run 2 of the service, the most allowed on one")
    );
}

#[test]
fn commands_are_refused_with_what_to_do() {
    let mut leader = Leader::new();
    let node = leader.nodes(1)[0];
    leader.service(1, spec("web", 1));
    leader.work();
    let create = |id, spec| Action::CreateService { id: ServiceId::from_random(id), spec: Box::new(spec) };
    let update = |seen_version, spec| Action::UpdateService { id: WEB, seen_version, spec: Box::new(spec) };
    let version = leader.state.service(WEB).expect("it is there").version;
    let applied = leader.state.applied_index();
    let (nobody, nothing) = (NodeId::from_random(77), ServiceId::from_random(77));
    let cluster = ClusterId::from_random(2);
    let before = leader.state.rows();
    let cases = [
        (Action::InitCluster { id: cluster }, "the cluster already has the id 000000000001".to_owned()),
        (
            create(2, spec("web", 1)),
            "a service named \"web\" exists already; choose another name, or change it with `goatctl service update`"
                .into(),
        ),
        (create(1, spec("other", 1)), "the id 000000000001 is taken; repeat the request with a new one".into()),
        (
            create(2, spec("Web", 1)),
            "name: \"Web\" is not a name: 1 to 63 of a-z, 0-9 and -, neither first nor last a -".into(),
        ),
        (create(2, spec("b", 100_001)), "replicas: 100001 is over the limit of 100000".into()),
        (
            update(Some(applied + 9), spec("web", 1)),
            format!("it has changed meanwhile (version {version}, seen {}); look again and repeat", applied + 9),
        ),
        (update(None, spec("b", 1)), "name: a service cannot be renamed (it is \"web\"); create another".into()),
        (Action::ScaleService { id: nothing, replicas: 1 }, "no service 00000000002d".into()),
        (
            Action::ScaleService { id: WEB, replicas: u32::MAX },
            "replicas: 4294967295 is over the limit of 100000".into(),
        ),
        (Action::RemoveService { id: nothing }, "no service 00000000002d".into()),
        (Action::RemoveNode { node: nobody }, "no node 00000000002d".into()),
        (Action::RemoveNode { node }, "node \"w1\" is ready; one must be down, or drained and empty, to go".into()),
        (Action::SetAvailability { node: nobody, availability: Availability::Drain }, "no node 00000000002d".into()),
    ];
    for (action, text) in cases {
        assert_eq!(leader.refused(action).to_string(), text);
    }
    let after = leader.state.rows();
    assert_eq!(before[1..], after[1..], "only the meta row, which counts commands, has changed");

    leader.done(Action::RemoveService { id: WEB });
    assert_eq!(leader.refused(update(None, spec("web", 2))).to_string(), "service \"web\" is being removed");
    assert_eq!(
        leader.refused(Action::ScaleService { id: WEB, replicas: 2 }).to_string(),
        "service \"web\" is being removed"
    );
}

#[test]
fn a_node_with_as_many_tasks_as_it_may_have_gets_no_more() {
    let mut leader = Leader::new();
    leader.node(1, Inventory { max_tasks: 2, ..roomy() });
    let web = leader.service(1, spec("web", 3));
    leader.settle();
    assert_eq!(leader.state.node_use(NodeId::from_random(1)).tasks, 2);
    let waits = (1..=3).map(|slot| leader.newest(web, slot)).find(|task| task.node.is_none()).expect("one waits");
    assert_eq!(
        describe(&explain(&leader.state, waits.id)),
        "no node fits: 1 run as many tasks as they may (max_tasks)"
    );
}

/// A reason is stored with each pending task, and 500 of them travel in one command.
#[test]
fn a_reason_repeats_only_the_beginning_of_what_a_user_wrote() {
    let constraint = |label: String, value: String| Constraint { label, equal: true, value };
    let mut wanted = spec("web", 1);
    wanted.placement.constraints = vec![constraint("x".into(), "ä".repeat(10_000))];
    let mut leader = Leader::new();
    leader.nodes(2);
    let text = why(&mut leader, wanted.clone());
    let expected = format!("no node fits: 2 outside the constraint x=={}…", "ä".repeat(30));
    assert_eq!(text, expected);
    wanted.placement.constraints = vec![constraint("l".repeat(100), "v".repeat(100)); 50];
    wanted.ports = (1..=500).map(tcp).collect();
    let mut leader = Leader::new();
    leader.nodes(2);
    let text = why(&mut leader, wanted);
    assert!(text.len() <= MAX_REASON_BYTES && text.ends_with('…'), "{} bytes: {text}", text.len());
}
