//! Managers that are gone, silent, without a leader, or gone in the middle.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::Code;

use crate::fake::{Fate, World};
use crate::run::{goatctl, start};
use crate::server::{Fault, Manager, nobody};

#[tokio::test(flavor = "multi_thread")]
async fn the_next_manager_is_asked_when_one_is_gone() {
    let world = World::new();
    let manager = Manager::start(&world);
    let addresses = format!("{},{}", nobody().await, manager.address);
    assert_eq!(goatctl(&addresses, "node ls -q").await.lines(), ["w1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_manager_is_asked_when_one_is_silent() {
    let world = World::new();
    let (silent, manager) = (Manager::start(&world), Manager::start(&world));
    silent.always(Some(Fault::Silent));
    let addresses = format!("{},{}", silent.address, manager.address);
    // Where the silent one had all the time, none would be left for the other, and the command would fail.
    assert_eq!(goatctl(&addresses, "node ls -q --timeout 4s").await.lines(), ["w1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_its_request_id_over_retries_and_happens_once() {
    let world = World::new();
    let (first, second) = (Manager::start(&world), Manager::start(&world));
    first.fail([Fault::DoAndFail]);
    let addresses = format!("{},{}", first.address, second.address);
    let ended = goatctl(&addresses, "run --monitor 0 --name web echo:1").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let state = world.state.lock();
    assert_eq!(state.services.len(), 1);
    let [(_, first), (_, second)] = &state.mutations[..] else { panic!("{:?}", state.mutations) };
    assert_eq!(first, second);
    assert!(first.parse::<goat_core::model::RequestId>().is_ok(), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_have_two_request_ids() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for line in ["service scale --monitor 0 web 1", "service scale --monitor 0 web 1"] {
        assert_eq!(goatctl(&manager.address, line).await.code, 0);
    }
    let state = world.state.lock();
    assert_ne!(state.mutations[0].1, state.mutations[1].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_is_waited_for() {
    let world = World::new();
    let manager = Manager::start(&world);
    manager.fail(vec![Fault::Refuse(Code::Unavailable, "no leader"); 4]);
    assert_eq!(goatctl(&manager.address, "node ls -q").await.lines(), ["w1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_none_answers_the_error_says_whom_it_asked_and_why_each_failed() {
    let world = World::new();
    let manager = Manager::start(&world);
    manager.always(Some(Fault::Refuse(Code::Unavailable, "no leader: m2 and m3 do not answer")));
    let nobody = nobody().await;
    let ended = goatctl(&format!("{},{nobody}", manager.address), "node ls --timeout 500ms").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (5, ""));
    let expected = format!(
        "error: no manager answered within 0.5 s\n  {}: no leader: m2 and m3 do not answer\n  {nobody}: connection refused: \
         no manager listens there\nhint: check the addresses (-H or GOAT_ADDR) and that a majority of the managers runs\n",
        manager.address
    );
    assert_eq!(ended.stderr, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_told_long_before_the_time_is_up() {
    // It gives up after a quarter of the time, and is not waited for as long as the whole.
    let nobody = nobody().await;
    let asked = goatctl(&nobody, "node ls --timeout 20s");
    let ended = timeout(Duration::from_secs(19), asked).await.expect("it ends in time");
    assert_eq!(ended.code, 5, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_manager_is_unreachable_and_nothing_worse() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // It may be gone already.
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let ended = goatctl(&address, "node ls --timeout 1s").await;
    server.abort();
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains(&address) && !ended.stderr.contains("panicked"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_the_manager_that_it_began_with() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let (first, second) = (Manager::start(&world), Manager::start(&world));
    let addresses = format!("{},{}", first.address, second.address);
    let mut running = start(&addresses, "run --monitor 0 --name web echo:1");
    running.until_it_says("1 preparing").await;
    second.fail(vec![Fault::Refuse(Code::Unavailable, "no leader"); 3]);
    drop(first);
    world.change(|state| state.fate = Fate::Run);
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("error"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_without_any_manager_says_that_the_change_was_accepted() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Stay("preparing", ""));
    let manager = Manager::start(&world);
    let mut running = start(&manager.address, "run --name web --timeout 1s echo:1");
    running.until_it_says("1 preparing").await;
    drop(manager);
    let ended = running.end().await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("hint: the change was accepted; the service goes on converging"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_exit_code_and_no_retry() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for (line, code, text) in [
        ("service inspect none", 1, "error: no service \"none\"\n"),
        ("run --name web echo:1", 1, "error: a service named \"web\" exists already\n"),
        ("node rm w1", 1, "error: node \"w1\" is ready; one must be down, or drained and empty, to go\n"),
    ] {
        let ended = goatctl(&manager.address, line).await;
        assert_eq!((ended.code, ended.stderr.as_str(), ended.stdout.as_str()), (code, text, ""), "{line}");
    }
    manager.fail([Fault::Refuse(Code::InvalidArgument, "image: \"X\" is not an image reference")]);
    let ended = goatctl(&manager.address, "run --name x X").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (2, "error: image: \"X\" is not an image reference\n"));
    manager.fail([Fault::Refuse(Code::DeadlineExceeded, "not committed in time")]);
    assert_eq!(goatctl(&manager.address, "node ls -q").await.lines(), ["w1"], "that one is worth another try");
}
