//! `up -d`: starts the supervisor as a process of its own and returns when the cluster is up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use goat_testcluster::control::Remote;
use goat_testcluster::error::Error;
use goat_testcluster::up::say;
use goat_testcluster::view;
use nix::fcntl::OFlag;
use tokio::process::Command;
use tokio::time::Instant;

use crate::cli::UpArgs;

const READY: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// Starts it, with its output in a file beside the directory.
pub async fn up(dir: &Path, args: &UpArgs) -> Result<(), Error> {
    if Remote::open(dir).await.is_ok() {
        let dir = dir.display();
        return Err(Error::failed(format!(
            "a cluster runs in {dir}; `testcluster --dir {dir} down` ends it, another --dir leaves it"
        )));
    }
    let log = log_path(dir);
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
    }
    let out = create_own(&log)?;
    let err = out.try_clone().map_err(Error::io("write", &log))?;
    let own = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
    let mut command = Command::new(own);
    command.arg("--dir").arg(dir).args(["up", "--is-detached", "--runtime", args.runtime.word()]);
    add_options(&mut command, args);
    command.stdin(Stdio::null()).stdout(out).stderr(err).current_dir("/");
    let mut child = command.spawn().map_err(Error::io("start", Path::new("testcluster")))?;
    let deadline = Instant::now() + READY;
    loop {
        if child.try_wait().map_err(Error::io("wait for", Path::new("testcluster")))?.is_some() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let _ = std::fs::remove_file(&log);
            return Err(Error::failed(format!("the cluster did not come up:\n{}", text.trim_end())));
        }
        if let Ok(remote) = Remote::open(dir).await
            && remote.status().await.is_ok_and(|status| status.is_ready)
        {
            say(&format!("the cluster is up in {}; its supervisor writes to {}", dir.display(), log.display()));
            let binaries = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
            say(&view::hints(remote.layout(), binaries.parent().unwrap_or(Path::new("/"))));
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!(
                "the cluster is not up after {} s; see {}",
                READY.as_secs(),
                log.display()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Makes or empties a file of this user's. Others may have put a file or a link of that name into a directory like /tmp.
fn create_own(path: &Path) -> Result<File, Error> {
    let open =
        OpenOptions::new().write(true).create(true).truncate(false).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    let file = open.map_err(Error::io("write", path))?;
    let owner = file.metadata().map_err(Error::io("look at", path))?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(Error::failed(format!(
            "{} belongs to user {owner}: remove it, or give another --dir, which it lies next to",
            path.display()
        )));
    }
    file.set_len(0).map_err(Error::io("empty", path))?;
    Ok(file)
}

/// Removes what [`up`] wrote beside the directory.
pub fn forget(dir: &Path) {
    // There is none where the supervisor ran in the foreground.
    let _ = std::fs::remove_file(log_path(dir));
}

/// Beside the directory, which the supervisor clears.
fn log_path(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".log");
    dir.with_file_name(name)
}

fn add_options(command: &mut Command, args: &UpArgs) {
    let numbers = [
        ("--managers", args.managers.into()),
        ("--spare-managers", args.spare_managers.into()),
        ("--workers", args.workers.into()),
        ("--port", args.port),
    ];
    for (flag, number) in numbers {
        command.arg(flag).arg(number.to_string());
    }
    let switches = [
        ("--daemons", args.daemons),
        ("--live-restore", args.live_restore),
        ("--slow-disks", args.slow_disks),
        ("--no-echo", args.no_echo),
        ("--keep", args.keep),
    ];
    command.args(switches.iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| flag));
    command.args(args.otlp_endpoint.iter().flat_map(|url| ["--otlp-endpoint", url]));
}
