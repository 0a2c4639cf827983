//! Daemons of other releases, and sockets elsewhere: rootless Docker has its own below /run/user.

use goat_worker::runtime::docker::DockerRuntime;
use goat_worker::runtime::{Access, Error, Runtime};

use crate::daemon::{self, Daemon, Options};
use crate::proxy::{DOCKER_20_10, DOCKER_29, Proxy, Release};
use crate::worker::{Job, Worker, eventually};

const IMAGE: &str = "built:1";

async fn played(release: Release) -> Option<(Daemon, Proxy)> {
    let daemon = daemon::start(Options::default())?;
    daemon.build(IMAGE, 1).await;
    let proxy = Proxy::start(daemon.dir.path().join("run/user/1000/docker.sock"), daemon.socket().as_ref(), release);
    Some((daemon, proxy))
}

/// Requested paths that do not name that version.
fn without(paths: &[String], version: &str) -> Vec<String> {
    let is_bare = |path: &str| path == "/version" || path == "/_ping";
    paths.iter().filter(|path| !is_bare(path) && !path.starts_with(version)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_lives_and_ends_on_docker_29_at_a_socket_of_a_user() {
    let Some((_daemon, proxy)) = played(DOCKER_29).await else { return };
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start_at(&proxy.socket(), root.path()).await;
    let watches = async || proxy.paths().iter().any(|path| path.starts_with("/v1.52/events")).then_some(());
    eventually("the worker has its daemon's version, and watches it", watches).await;
    proxy.forget_paths();
    let id = worker.run(Job::endless(IMAGE)).await;
    worker.until(&id, "running").await;
    let found = worker.runtime.list().await.expect("listed");
    let meta = &found.first().expect("it runs").meta;
    let argv = ["/bin/busybox".to_owned(), "true".to_owned()];
    let ran = worker.runtime.exec(meta, &argv, std::time::Duration::from_secs(10)).await.expect("it answers");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    worker.drop_task(&id).await;
    worker.until_gone(&id).await;
    let paths = proxy.paths();
    for part in ["/containers/create", "/start", "/json", "/exec"] {
        assert!(paths.iter().any(|path| path.contains(part)), "{part} in {paths:?}");
    }
    assert_eq!(without(&paths, "/v1.52/"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_comes_back_as_another_release_costs_no_task() {
    let Some((_daemon, proxy)) = played(DOCKER_20_10).await else { return };
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start_at(&proxy.socket(), root.path()).await;
    let first = worker.run(Job::endless(IMAGE)).await;
    let before = worker.until(&first, "running").await;
    assert!(proxy.paths().iter().any(|path| path.starts_with("/v1.41/")), "{:?}", proxy.paths());
    for (release, version) in [(DOCKER_29, "/v1.52/"), (DOCKER_20_10, "/v1.41/")] {
        proxy.become_release(release);
        // It is asked for at once, in the version of the release before.
        let id = worker.run(Job::endless(IMAGE)).await;
        worker.until(&id, "running").await;
        assert!(proxy.paths().iter().any(|path| path.starts_with(version)), "{version} in {:?}", proxy.paths());
        assert_eq!(worker.report(&first).await, Some(before.clone()), "{}", release.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_too_old_or_too_new_is_refused_with_what_it_has() {
    let Some((_daemon, proxy)) = played(DOCKER_20_10).await else { return };
    let root = tempfile::tempdir().expect("a directory");
    let runtime = DockerRuntime::new(goat_core::model::NodeId::from_random(1), proxy.socket(), root.path());
    let cases = [
        (
            Release { name: "19.03", newest: (1, 40), oldest: (1, 12) },
            "has API 1.40; 1.41 or newer is needed (Docker 20.10)",
        ),
        (Release { name: "99", newest: (1, 120), oldest: (1, 110) }, "upgrade the worker"),
    ];
    for (release, expected) in cases {
        proxy.become_release(release);
        match runtime.ping().await {
            Err(Error::Unsupported { problem }) => {
                assert!(problem.contains(expected) && problem.contains("run/user/1000/docker.sock"), "{problem}");
            }
            other => panic!("{release:?}: {other:?}"),
        }
    }
}
