//! Slow disks: every sync of a manager takes longer, by a library that is loaded into it before others.
//!
//! Each manager has a file of eight bytes that tells the library by how much, so that it can change while the manager runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::layout::{Layout, Member};

const LIBRARY: &str = "examples/libslow_disk.so";
/// In the cluster's directory.
pub const DIR: &str = "disks";
/// Above this members would be taken for dead, whatever their settings are.
pub const MAX: Duration = Duration::from_secs(10);

fn file(layout: &Layout, manager: Member) -> PathBuf {
    layout.dir.join(DIR).join(manager.name())
}

/// The library, where cargo puts it beside the other programs.
pub fn library(binaries: &Path) -> Result<PathBuf, Error> {
    let path = binaries.join(LIBRARY);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::failed(format!(
        "{} is missing; build it with `cargo build -p goat-testcluster --example slow_disk`",
        path.display()
    )))
}

/// Makes the file of a manager, with a disk that is not slowed. Returns the variables that load the library; `preloaded` is
/// loaded before it.
pub fn prepare(
    layout: &Layout,
    binaries: &Path,
    manager: Member,
    preloaded: Option<&str>,
) -> Result<Vec<(String, String)>, Error> {
    let library = library(binaries)?.display().to_string();
    let dir = layout.dir.join(DIR);
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    set(layout, manager, Duration::ZERO)?;
    let preload = preloaded.map_or_else(|| library.clone(), |others| format!("{others}:{library}"));
    let file = file(layout, manager).display().to_string();
    Ok(vec![("LD_PRELOAD".to_owned(), preload), ("SLOW_DISK".to_owned(), file)])
}

/// Sets how much longer each sync of the manager takes from now on; zero ends it.
pub fn set(layout: &Layout, manager: Member, delay: Duration) -> Result<(), Error> {
    if delay > MAX {
        return Err(Error::usage(format!(
            "slow disk: {} ms is more than {} ms; give a shorter time",
            delay.as_millis(),
            MAX.as_millis()
        )));
    }
    let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
    let path = file(layout, manager);
    // Written in place: the manager has it mapped.
    let write = || {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.write_all_at(&us.to_ne_bytes(), 0)
    };
    write().map_err(Error::io("write", &path))
}

/// How much longer each sync of the manager takes; None if the cluster was started without the library.
pub fn get(layout: &Layout, manager: Member) -> Option<Duration> {
    let bytes = std::fs::read(file(layout, manager)).ok()?;
    Some(Duration::from_micros(u64::from_ne_bytes(bytes.try_into().ok()?)))
}
