//! Clusters whose Docker daemon listens elsewhere, as rootless Docker does: played by a proxy in front of the machine's, which
//! is late with what it is told to be late with. Without a Docker daemon these tests are left out, and say so.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters as query;
use common::{World, left_over, text, wait_for};
use goat_testcluster::control::Remote;
use goat_testcluster::runtime::{self, RuntimeKind};
use goat_testcluster::{echo, remains};

const MAX_HEAD_BYTES: usize = 64 << 10;

/// The socket of the machine's daemon.
fn machine_socket() -> PathBuf {
    runtime::docker_socket().expect("DOCKER_HOST is unset, or a Unix socket")
}

/// Passes connections on to the machine's daemon.
struct Proxy {
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    create_delay_ms: Arc<AtomicU64>,
    late: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(socket: PathBuf) -> Self {
        std::fs::create_dir_all(socket.parent().expect("a path in a directory")).expect("made");
        let listener = UnixListener::bind(&socket).expect("nobody else has it");
        let proxy = Self { socket, requests: Arc::default(), create_delay_ms: Arc::default(), late: Arc::default() };
        let (requests, delay, late) = (proxy.requests.clone(), proxy.create_delay_ms.clone(), proxy.late.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (requests, delay, late) = (requests.clone(), delay.clone(), late.clone());
                std::thread::spawn(move || {
                    // The client may leave at any time.
                    let _ = serve(client, &requests, &delay, &late);
                });
            }
        });
        proxy
    }

    fn has_seen(&self, part: &str) -> bool {
        self.requests.lock().expect("nobody panics with it").iter().any(|line| line.contains(part))
    }
}

/// One request and its answer. A request is passed on although whoever sent it is gone, as a daemon finishes what it began.
fn serve(
    mut client: UnixStream,
    requests: &Mutex<Vec<String>>,
    create_delay_ms: &AtomicU64,
    late: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let read = client.read(&mut part)?;
        if read == 0 || bytes.len() > MAX_HEAD_BYTES {
            return Ok(());
        }
        bytes.extend_from_slice(&part[..read]);
    };
    let head = text(&bytes[..end]).to_lowercase();
    let line = head.lines().next().unwrap_or_default().to_owned();
    requests.lock().expect("nobody panics with it").push(line.clone());
    let is_create = line.contains("/containers/create");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    while is_create && bytes.len() < end + length.unwrap_or(0) {
        let read = client.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&part[..read]);
    }
    let delay = create_delay_ms.load(Ordering::SeqCst);
    if is_create && delay > 0 {
        late.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(delay));
    }
    pass_on(client, &bytes, is_create)
}

/// `is_kept`: the daemon is not told that whoever asks has gone.
fn pass_on(mut client: UnixStream, request: &[u8], is_kept: bool) -> std::io::Result<()> {
    let mut daemon = UnixStream::connect(machine_socket())?;
    daemon.write_all(request)?;
    let (mut answers, mut asks) = (daemon.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut asks, &mut daemon);
    if !is_kept {
        let _ = daemon.shutdown(Shutdown::Write);
    }
    let _ = back.join();
    Ok(())
}

/// A cluster with workers on a daemon at a socket of a user's.
fn cluster() -> Option<(World, Proxy)> {
    if UnixStream::connect(machine_socket()).is_err() {
        let _ = std::io::stderr().write_all(b"a test with Docker is LEFT OUT: no daemon answers\n");
        return None;
    }
    let world = World::new();
    let proxy = Proxy::start(world.dir.with_file_name("user").join("docker.sock"));
    let (port, host) = (world.port.to_string(), format!("unix://{}", proxy.socket.display()));
    let args = ["up", "-d", "--managers", "1", "--workers", "2", "--port", &port];
    let output = world.command(&args).env("DOCKER_HOST", host).output().expect("testcluster can be started");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some((world, proxy))
}

fn machine() -> Docker {
    runtime::docker().expect("a client")
}

/// Containers of a node, ended ones too.
async fn containers(nodes: &[String]) -> usize {
    let mut count = 0;
    for node in nodes {
        let filters = HashMap::from([("label", vec![format!("io.goat.node={node}")])]);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        count += machine().list_containers(Some(options)).await.expect("listed").len();
    }
    count
}

fn nodes(dir: &Path) -> Vec<String> {
    ["w1", "w2"].iter().map(|name| remains::node_id(&dir.join(name)).expect("it has joined")).collect()
}

/// The names of images that clusters with this binary use.
async fn images() -> Vec<String> {
    let images = machine().list_images(None::<query::ListImagesOptions>).await.expect("listed");
    let names = images.into_iter().flat_map(|image| image.repo_tags);
    names.filter(|name| name.starts_with(echo::image())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_use_the_daemon_that_docker_host_names_and_down_leaves_nothing_in_it() {
    let Some((world, proxy)) = cluster() else { return };
    assert!(world.echoes("hello"));
    let create = |version: &str| format!("post {version}/containers/create");
    assert!(proxy.has_seen(&create("/v1.41")) || proxy.has_seen(&create("")), "workers ask it too");
    let nodes = nodes(&world.dir);
    assert!(containers(&nodes).await > 0);
    assert!(images().await.len() >= 2, "the image, and the name that says that this cluster uses it");

    // Killed, the supervisor takes nothing along; without the variable, `down` knows from the directory which daemon it was.
    let supervisor = world.status()["pid"].as_i64().expect("a number");
    world.kill(supervisor);
    assert!(containers(&nodes).await > 0);
    world.ok(&["down"]);
    assert_eq!(containers(&nodes).await, 0);
    let users = images().await.into_iter().filter(|name| name.contains("-s")).count();
    assert!(users > 0 || images().await.is_empty(), "no name of the image is left when no other cluster uses it");
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_still_being_created_is_removed_as_well() {
    const DELAY_MS: u64 = 500;
    let Some((world, proxy)) = cluster() else { return };
    let nodes = nodes(&world.dir);
    proxy.create_delay_ms.store(DELAY_MS, Ordering::SeqCst);
    let remote = Remote::open(&world.dir).await.expect("it runs");
    let spec = echo::spec("late", RuntimeKind::Docker, 2, Path::new("/echo"));
    remote.client().expect("a client").create_service(spec).await.expect("created");
    wait_for("a container is asked for", || proxy.late.load(Ordering::SeqCst) > 0);
    world.ok(&["down"]);
    let created = || proxy.late.load(Ordering::SeqCst);
    let before = created();
    // By then the daemon has certainly created what it was asked for.
    std::thread::sleep(Duration::from_millis(2 * DELAY_MS));
    assert_eq!(created(), before, "nobody asks any more");
    assert_eq!(containers(&nodes).await, 0);
}
