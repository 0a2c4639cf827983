//! Disks of members' own: file systems in files, on loop devices, so that they can lose power. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::programs;

/// Enough for a journal, and the least that XFS takes. The file has holes where nothing is.
const BYTES: u64 = 320 << 20;
/// What was killed lets go of its files a moment later.
const UNMOUNT_TRIES: u32 = 500;
const UNMOUNT_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

const MOUNT_TRIES: u32 = 20;
const MOUNT_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// What is made in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// What is missing here to make and mount one.
    pub fn missing(self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("root".into());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("loop devices".into());
        }
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let mkfs = format!("mkfs.{}", self.name());
        let is_known = known.lines().any(|line| line.trim_start_matches("nodev").trim() == self.name());
        match (is_known, programs::is_there(&mkfs)) {
            (false, _) => Some(format!("a kernel that knows {}", self.name())),
            (_, false) => Some(mkfs),
            _ => None,
        }
    }
}

/// The file behind a manager's data directory.
pub fn path(layout: &Layout, manager: Member) -> PathBuf {
    layout.dir.join(format!("{}.img", manager.name()))
}

/// Makes the file and the file system in it.
pub fn make(file: &Path, system: FileSystem) -> Result<(), Error> {
    let made = std::fs::File::create(file).and_then(|made| made.set_len(BYTES));
    made.map_err(Error::io("make", file))?;
    let quiet: &[&str] = match system {
        FileSystem::Ext4 => &["-q", "-F", "-m", "0"],
        FileSystem::Xfs => &["-q", "-f"],
    };
    run(programs::command(&format!("mkfs.{}", system.name())).args(quiet).arg(file))
}

/// Mounts it; the loop device goes with the mount.
pub fn mount(file: &Path, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    let mut tries = 0;
    loop {
        let mounted = run(programs::command("mount").args(["-o", "loop,noatime"]).args([file, dir]));
        tries += 1;
        // The loop device of the mount before it goes in the background.
        if mounted.is_ok() || tries == MOUNT_TRIES {
            return mounted;
        }
        std::thread::sleep(MOUNT_PAUSE);
    }
}

/// Unmounts it as soon as nobody uses it any more.
pub fn unmount(dir: &Path) -> Result<(), Error> {
    for _ in 0..UNMOUNT_TRIES {
        match umount2(dir, MntFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) => std::thread::sleep(UNMOUNT_PAUSE),
            Err(errno) => return Err(Error::io("unmount", dir)(errno.into())),
        }
    }
    Err(Error::failed(format!("{} is still in use, and cannot be unmounted", dir.display())))
}

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_owned();
    let output = command.output().map_err(Error::io("start", Path::new(&program)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("`{}` failed: {}", program.display(), said.trim())))
}
