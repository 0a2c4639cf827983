//! A copy of a data directory beside it, before something is done to it that cannot be undone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sys::statvfs::statvfs;

use super::size;

/// What is left free for others.
const SPARE_BYTES: u64 = 64 << 20;

/// What became of the copy.
#[derive(Debug)]
pub enum Aside {
    Copied(PathBuf),
    /// Made by an attempt before this one.
    There(PathBuf),
    NoRoom {
        needed: u64,
        free: u64,
    },
}

impl std::fmt::Display for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Copied(path) => write!(f, "copied to {} as it was before", path.display()),
            Self::There(path) => write!(f, "a copy of it as it was before is in {} already", path.display()),
            Self::NoRoom { needed, free } => {
                write!(f, "not copied aside: {} would be needed and {} are free", size(*needed), size(*free))
            }
        }
    }
}

/// Copies `dir` beside itself, durably, under a name that says up to where its log went. The caller sees to it that
/// nothing runs on it. Half a copy is never left under that name.
///
/// # Errors
/// Where it cannot be read or written; no room is none.
pub fn copy_aside(dir: &Path, last: u64) -> anyhow::Result<Aside> {
    let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = dir.with_file_name(format!("{name}.before-recovery-{last}"));
    if copy.exists() {
        return Ok(Aside::There(copy));
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let needed = tree_bytes(&dir)?;
    let disk = statvfs(parent).with_context(|| format!("cannot ask for free space in {}", parent.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    if free < needed + SPARE_BYTES {
        return Ok(Aside::NoRoom { needed, free });
    }
    let partial = dir.with_file_name(format!("{name}.before-recovery-partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    copy_tree(&dir, &partial)?;
    fs::rename(&partial, &copy).with_context(|| format!("cannot rename {}", partial.display()))?;
    File::open(parent).and_then(|parent| parent.sync_all()).context("cannot sync the copy")?;
    Ok(Aside::Copied(copy))
}

fn tree_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { tree_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    // What is private stays so: the authority's key is in it.
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
            File::open(&target)?.sync_all().with_context(|| format!("cannot sync {}", target.display()))?;
        }
    }
    File::open(to)?.sync_all().with_context(|| format!("cannot sync {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_and_made_once() {
        let parent = tempfile::tempdir().expect("there is room");
        let dir = parent.path().join("m1");
        fs::create_dir_all(dir.join("db")).expect("there is room");
        fs::write(dir.join("db/1.log"), "log").expect("there is room");
        // What an attempt left that was cut off.
        fs::create_dir(parent.path().join("m1.before-recovery-partial")).expect("there is room");
        let Ok(Aside::Copied(copy)) = copy_aside(&dir, 7) else { panic!("there is room") };
        assert_eq!(copy, parent.path().canonicalize().expect("it is there").join("m1.before-recovery-7"));
        assert_eq!(fs::read(copy.join("db/1.log")).expect("it was copied"), b"log");
        assert!(matches!(copy_aside(&dir, 7), Ok(Aside::There(there)) if there == copy));
        assert_eq!(fs::read_dir(parent.path()).expect("it is there").count(), 2);
    }
}
