//! A Docker daemon of the test's own: its network namespace, its socket, its data, if wanted on a small disk, its end.
//!
//! Never in the machine's network namespace: a daemon without a bridge removes `docker0`, which is the machine's daemon's.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::Docker;
use bollard::query_parameters as query;
use futures::StreamExt;
use nix::sys::signal::Signal;

use crate::processes::{self, wait_for};

/// One daemon at a time: they are slow to start beside each other.
static TURN: Mutex<()> = Mutex::new(());
const BUSYBOX: &str = "/bin/busybox";

/// How a daemon is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub has_live_restore: bool,
    /// Its data on a file system of this size.
    pub disk_mib: Option<u64>,
}

pub struct Daemon {
    pub dir: tempfile::TempDir,
    child: Option<Child>,
    options: Options,
    /// Of its network namespace and its control group.
    name: String,
    _turn: MutexGuard<'static, ()>,
}

/// What the daemon says of a container when it is asked about it.
pub async fn state(client: &Docker, container: &str) -> bollard::models::ContainerState {
    client.inspect_container(container, None).await.expect("it is there").state.expect("it has one")
}

/// What these tests need and is not there; said where it can be seen, since a test's own output is not.
fn missing() -> Option<&'static str> {
    // As `run` and `inside` look for them.
    let has = |program: &str| std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file());
    let needs = [
        (nix::unistd::geteuid().is_root(), "root"),
        (has("dockerd"), "dockerd"),
        (has("ip") && has("nsenter"), "ip and nsenter (iproute2 and util-linux)"),
        (has("docker-registry"), "docker-registry (tests/deps installs it)"),
        (Path::new(BUSYBOX).is_file(), "busybox-static (tests/deps installs it)"),
    ];
    needs.into_iter().find(|(is_there, _)| !is_there).map(|(_, what)| what)
}

/// A program of the system, which a root shell that `su` starts without `-` has not in its PATH.
fn system(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    command
}

fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// A daemon, or None where none can be had.
pub fn start(options: Options) -> Option<Daemon> {
    if let Some(what) = missing() {
        let _ = writeln!(std::io::stderr(), "a test with a Docker daemon of its own is LEFT OUT: it needs {what}");
        return None;
    }
    Some(Daemon::start(options))
}

impl Daemon {
    fn start(options: Options) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::Builder::new().prefix("goat-dockerd-").tempdir().expect("a directory");
        let name = dir.path().file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        let mut daemon = Self { dir, child: None, options, name, _turn: turn };
        run(system("ip").args(["netns", "add", &daemon.name]));
        run(daemon.inside("ip").args(["link", "set", "lo", "up"]));
        std::fs::create_dir(daemon.root()).expect("made");
        if let Some(mib) = options.disk_mib {
            let image = daemon.dir.path().join("disk.img");
            File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("a file");
            run(system("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(daemon.root()));
        }
        daemon.launch();
        daemon
    }

    /// A program in its network namespace, where it finds what listens on loopback.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = system("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Where it keeps its data.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn socket(&self) -> String {
        self.dir.path().join("docker.sock").display().to_string()
    }

    pub fn client(&self) -> Docker {
        Docker::connect_with_unix(&self.socket(), 60, bollard::API_DEFAULT_VERSION).expect("a client")
    }

    /// Starts it, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let dir = self.dir.path().to_owned();
        let path = |name: &str| dir.join(name);
        // The machine's own configuration is another daemon's.
        std::fs::write(path("daemon.json"), "{}").expect("written");
        let log = File::options().create(true).append(true).open(path("log")).expect("a log");
        let mut command = self.inside("dockerd");
        command.arg("--config-file").arg(path("daemon.json"));
        command.arg("--data-root").arg(self.root()).arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("pid")).arg("--host").arg(format!("unix://{}", self.socket()));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
        command.arg("--cgroup-parent").arg(&self.name);
        if self.options.has_live_restore {
            command.arg("--live-restore");
        }
        let errors = log.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("dockerd can be started");
        let child = self.child.insert(child);
        let host = format!("unix://{}", dir.join("docker.sock").display());
        wait_for("the daemon answers", || {
            let ended = child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "dockerd ended: {}", std::fs::read_to_string(path("log")).unwrap_or_default());
            let asked = Command::new("docker").args(["--host", &host, "version"]).output();
            asked.is_ok_and(|output| output.status.success())
        });
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    pub fn freeze(&self) {
        processes::send(self.pid(), Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        processes::send(self.pid(), Signal::SIGCONT);
    }

    /// Kills it; its containers run on. Its containerd dies with it: the next daemon would wait in vain for one that is
    /// dead and not reaped yet.
    pub fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.dir.path().join("exec/containerd/containerd.pid")).expect("it has one");
        processes::send(self.pid(), Signal::SIGKILL);
        self.reap();
        wait_for("its containerd is gone", || !Path::new("/proc").join(pid.trim()).exists());
    }

    /// Asks it to end, and does not wait.
    pub fn terminate(&self) {
        processes::send(self.pid(), Signal::SIGTERM);
    }

    /// Waits for its end.
    pub fn reap(&mut self) {
        self.child.take().expect("it runs").wait().expect("it is a child");
    }

    /// Makes an image of busybox with `ballast` bytes that do not compress.
    pub async fn build(&self, reference: &str, ballast: usize) {
        self.build_with(reference, ballast, "").await;
    }

    /// The same, with more lines of its Dockerfile.
    pub async fn build_with(&self, reference: &str, ballast: usize, lines: &str) {
        let busybox = std::fs::read(BUSYBOX).expect("it is there");
        let mut noise = vec![0; ballast];
        std::io::Read::read_exact(&mut File::open("/dev/urandom").expect("noise"), &mut noise).expect("noise");
        let dockerfile = format!(
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY ballast /ballast\nENTRYPOINT [\"/bin/busybox\"]\n{lines}\n"
        );
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [("Dockerfile", dockerfile.as_bytes()), ("busybox", &busybox), ("ballast", &noise)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            tar.append_data(&mut header, name, bytes).expect("packed");
        }
        let context = tar.into_inner().expect("packed").into();
        let options = query::BuildImageOptionsBuilder::default().t(reference).rm(true).forcerm(true).build();
        let client = self.client();
        let mut steps = client.build_image(options, None, Some(bollard::body_full(context)));
        while let Some(step) = steps.next().await {
            assert_eq!(step.expect("built").error_detail, None);
        }
    }

    /// Pushes an image under another name, and forgets it here under both.
    pub async fn give_to(&self, registry: &crate::registry::Registry, reference: &str, name: &str, tag: &str) {
        let client = self.client();
        let repository = format!("{}/{name}", registry.address());
        let options = query::TagImageOptionsBuilder::default().repo(&repository).tag(tag).build();
        client.tag_image(reference, Some(options)).await.expect("tagged");
        let options = query::PushImageOptionsBuilder::default().tag(tag).build();
        let mut steps = client.push_image(&repository, Some(options), None);
        while let Some(step) = steps.next().await {
            step.expect("pushed");
        }
        self.forget(&format!("{repository}:{tag}")).await;
        self.forget(reference).await;
    }

    pub async fn forget(&self, reference: &str) {
        let options = None::<query::RemoveImageOptions>;
        self.client().remove_image(reference, options, None).await.expect("removed");
    }

    pub async fn has_image(&self, reference: &str) -> bool {
        self.client().inspect_image(reference).await.is_ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        processes::sweep(self.dir.path(), &self.name);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        let _ = system("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Runs a program, which has to succeed.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
