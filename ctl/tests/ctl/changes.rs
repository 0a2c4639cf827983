//! Changes, and waiting for their effect.

use serde_json::json;

use crate::fake::{Fate, World, task};
use crate::run::{goatctl, start};
use crate::server::Manager;

#[tokio::test(flavor = "multi_thread")]
async fn create_waits_until_all_run_and_prints_the_service() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "service create --monitor 0 --name web --replicas 2 echo:1 -o json");
    running.until_it_says("web: 0 of 2 running, 2 preparing").await;
    world.change(|state| state.fate = Fate::Run);
    let ended = running.end().await;
    assert_eq!(ended.json()["replicas_running"], json!(2), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_makes_up_a_name_and_passes_everything_after_the_image() {
    let world = World::new();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --monitor 0 -p 8080:80 -e A=1 --cpu 0.5 lib/echo:1 --port 80 -v").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let spec = world.state.lock().services[0].spec.clone().expect("it has one");
    assert!(spec.name.starts_with("echo-"), "{}", spec.name);
    assert_eq!((spec.image.as_str(), spec.args.join(" ")), ("lib/echo:1", "--port 80 -v".into()));
    assert_eq!((spec.replicas, spec.ports[0].host_port, spec.env["A"].as_str()), (1, 8080, "1"));
    assert_eq!(spec.reservations.map(|reserved| reserved.cpu_millis), Some(500));
    assert!(ended.stdout.contains(&spec.name) && ended.stdout.contains("1/1 running"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_and_quiet_print_the_id_and_do_not_wait() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run -d -q --name web echo:1").await;
    assert_eq!((ended.lines(), ended.stderr.as_str()), (vec!["service00101"], ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_detaches_says_so_and_is_no_failure() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "run --name web echo:1");
    running.until_it_says("0 of 1 running").await;
    running.interrupt();
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("detached; the service goes on converging"), "{ended:?}");
    assert_eq!(world.state.lock().services.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_placed_fails_with_the_managers_explanation() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("pending", "no node fits: 3 lack memory (need 64.0 GiB)"));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --name web --memory 64GiB echo:1").await;
    assert_eq!(ended.code, 3, "{ended:?}");
    for text in ["web cannot be placed", "no node fits: 3 lack memory (need 64.0 GiB)", "as soon as there is room"] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_ends_the_wait_and_not_the_service() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --name web --wait-timeout 300ms echo:1").await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("timed out after 300ms: web has 0 of 1 running, 1 preparing"), "{ended:?}");
    assert_eq!(world.state.lock().services.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ends_for_good_has_converged_or_failed_by_its_exit_code() {
    for (code, expected) in [(0, 0), (3, 6)] {
        let world = World::new();
        world.change(|state| state.fate = Fate::End(code));
        let manager = Manager::start(&world);
        let ended = goatctl(&manager.address, "run --name job --restart no echo:1").await;
        assert_eq!(ended.code, expected, "{ended:?}");
        assert_eq!(ended.stderr.contains("job does not run"), expected == 6, "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_waits_and_so_does_removal_until_the_last_task_is_gone() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service scale --monitor 0 web 3").await;
    assert!(ended.lines()[0].contains("3/3 running"), "{ended:?}");
    let ended = goatctl(&manager.address, "service rm web").await;
    assert_eq!(ended.lines(), ["service00101  web  removed"]);
    assert!(world.state.lock().services.is_empty() && world.state.lock().tasks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_does_not_keep_the_others() {
    let world = World::new().with_service("web", 1).with_service("api", 1);
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service rm web none api").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 2, "{ended:?}");
    assert!(ended.stderr.contains("error: no service \"none\""), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_is_given_and_names_the_version_that_it_saw() {
    let world = World::new().with_service("web", 2);
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service update --monitor 0 web --image echo:2 -e B=2").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let update = world.state.lock().updates[0].clone();
    let spec = update.spec.expect("it has one");
    assert_eq!((update.seen_version, spec.replicas), (Some(101), 2));
    assert_eq!((spec.image.as_str(), spec.env["B"].as_str()), ("echo:2", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_until_the_node_is_empty_and_activate_does_not_wait() {
    let world = World::new();
    world.change(|state| state.tasks.push(task("web", "service00001", 1, 1)));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "node drain w1").await;
    assert_eq!(ended.lines(), ["node0000000w1  w1  drained  0 tasks"]);
    assert!(ended.stderr.contains("w1: 1 of 1 tasks left"), "{ended:?}");
    assert_eq!(goatctl(&manager.address, "node activate w1 -o json").await.json()["availability"], json!("active"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_the_answer_says_to_whom() {
    let world = World::new();
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "operator raft transfer-leader --to m2").await;
    assert_eq!(ended.lines(), ["m2 leads, term 4"]);
}
