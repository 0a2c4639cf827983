//! Small file systems in memory for members' data, so that a disk can be full. Needs root.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount as mount_it, umount2};
use nix::sys::statvfs::statvfs;

use crate::error::Error;
use crate::images;
use crate::layout::{Layout, Member};
use crate::options::Options;

/// Makes the directory and mounts a file system of that size on it.
pub fn mount(dir: &Path, mib: u32) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    let size = format!("size={mib}m");
    mount_it(Some("goat-testcluster"), dir, Some("tmpfs"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID, Some(size.as_str()))
        .map_err(|errno| Error::io("mount a small file system on", dir)(errno.into()))
}

/// A file system of its own for each member's data, where that was asked for.
pub fn mount_all(layout: &Layout, options: &Options) -> Result<(), Error> {
    if let Some(mib) = options.worker_disk_mib {
        for worker in layout.members().filter(|member| matches!(member, Member::Worker(_))) {
            mount(&layout.data_dir(worker), mib)?;
        }
    }
    for manager in layout.members().filter(|member| matches!(member, Member::Manager(_))) {
        let dir = layout.data_dir(manager);
        if let Some(mib) = options.manager_disk_mib {
            mount(&dir, mib)?;
        }
        if let Some(system) = options.manager_image {
            let file = images::path(layout, manager);
            images::make(&file, system)?;
            images::mount(&file, &dir)?;
        }
    }
    Ok(())
}

/// Whether a file system of its own is mounted there: filling it up harms nobody else.
fn is_mounted(dir: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|point| Path::new(point) == dir)
}

/// The file in a file system that takes up what is to be taken up of it.
const FILLER: &str = "filler";

/// Leaves so many bytes of the file system that is mounted there; how many bytes that took.
pub fn fill(mounted: &Path, leave: u64) -> Result<u64, Error> {
    if !is_mounted(mounted) {
        return Err(Error::failed(format!(
            "{} is no file system of its own, and is not filled: run this drill on a cluster of its own",
            mounted.display()
        )));
    }
    let path = mounted.join(FILLER);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(Error::io("write", &path))?;
    let free = || -> Result<u64, Error> {
        let told = statvfs(mounted).map_err(|errno| Error::io("look at", mounted)(errno.into()))?;
        Ok(told.blocks_available() * told.fragment_size())
    };
    let mut written = 0;
    let block = vec![0; 64 << 10];
    for size in [block.len(), 4 << 10, 512, 1] {
        while (leave == 0 || free()? >= leave + size as u64) && file.write_all(&block[..size]).is_ok() {
            written += size as u64;
        }
    }
    Ok(written)
}

/// Gives back what [`fill`] took.
pub fn empty(mounted: &Path) -> Result<(), Error> {
    let path = mounted.join(FILLER);
    std::fs::remove_file(&path).map_err(Error::io("remove", &path))
}

/// Unmounts every file system below the directory.
pub fn unmount_all(dir: &Path) -> Result<(), Error> {
    for mounted in mounted_below(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default(), dir) {
        umount2(&mounted, MntFlags::MNT_DETACH).map_err(|errno| Error::io("unmount", &mounted)(errno.into()))?;
    }
    Ok(())
}

/// The last mounted first.
fn mounted_below(mounts: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<_> = points.filter(|point| point.starts_with(dir) && point != dir).collect();
    below.reverse();
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_below_the_directory_is_unmounted() {
        let mounts = "proc /proc proc rw 0 0\nx /tmp/a tmpfs rw 0 0\nx /tmp/a/m1 tmpfs rw 0 0\nx /tmp/ab tmpfs rw 0 0\n\
                      x /tmp/a/m1/deep tmpfs rw 0 0\n";
        let below = mounted_below(mounts, Path::new("/tmp/a"));
        assert_eq!(below, [PathBuf::from("/tmp/a/m1/deep"), PathBuf::from("/tmp/a/m1")]);
    }
}
