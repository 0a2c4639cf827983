//! The files of one manager in the directory of saved snapshots: which there are, which go, and how one is made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goat_core::archive::{Head, Reader};

use super::name::Name;
use super::schedule::Error;
use crate::raft::Group;

/// Its owner's alone: it holds the authority's key.
const MODE: u32 = 0o600;
const PARTIAL: &str = ".partial";

/// Whose files are meant: others in the directory are nobody's business.
#[derive(Debug)]
pub(super) struct Own {
    cluster: String,
    pub(super) manager: String,
}

impl Own {
    pub(super) fn of(group: &Group) -> Self {
        Self { cluster: group.cluster().to_string(), manager: group.name() }
    }

    /// This manager's files, oldest first. What is of the future was made when the clock was wrong: it counts as older than
    /// all others, or nothing newer would be made or kept until that day.
    pub(super) fn names(&self, dir: &Path, now_ms: u64) -> Result<Vec<Name>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let name = entry.map_err(Error::io("list", dir))?.file_name();
            names.extend(name.to_str().and_then(Name::parse).filter(|name| self.is_ours(name)));
        }
        names.sort_unstable_by_key(|name| (name.at_ms() <= now_ms, name.to_string()));
        Ok(names)
    }

    fn is_ours(&self, name: &Name) -> bool {
        name.cluster == self.cluster && name.manager == self.manager
    }

    /// Removes the oldest beyond `keep`, after a look inside: what only bears such a name stays.
    pub(super) fn remove_surplus(&self, dir: &Path, keep: usize, now_ms: u64) -> Result<(), Error> {
        let names = self.names(dir, now_ms)?;
        for name in &names[..names.len().saturating_sub(keep)] {
            let path = dir.join(name.to_string());
            if self.head(&path).is_some() {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// What it says of itself, where it is one of ours.
    pub(super) fn head(&self, path: &Path) -> Option<Head> {
        let reader = Reader::begin(BufReader::new(File::open(path).ok()?)).ok()?;
        let head = reader.head();
        (head.cluster_id == self.cluster && head.made_by == self.manager).then(|| head.clone())
    }

    fn partial(&self) -> String {
        format!(".goat-{}-{}{PARTIAL}", self.cluster, self.manager)
    }

    /// Removes what a crash has left.
    pub(super) fn sweep(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(self.partial());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

/// A file in the making; gone with this, unless it is kept.
pub(super) struct Partial {
    pub(super) file: File,
    pub(super) path: PathBuf,
    is_kept: bool,
}

impl Partial {
    pub(super) fn create(dir: &Path, own: &Own) -> Result<Self, Error> {
        let path = dir.join(own.partial());
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        Ok(Self { file: file.map_err(Error::io("create", &path))?, path, is_kept: false })
    }

    pub(super) fn keep(mut self, path: &Path) -> Result<(), Error> {
        fs::rename(&self.path, path).map_err(Error::io("rename to", path))?;
        self.is_kept = true;
        let dir = path.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::archive::Writer;

    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;
    const NOW_MS: u64 = 1_795_553_100_000;

    /// A whole file that was made then.
    fn put(own: &Own, dir: &Path, made_at_ms: u64, index: u64) -> Name {
        let (cluster_id, made_by) = (own.cluster.clone(), own.manager.clone());
        let head = Head { cluster_id, made_by, made_at_ms, index, ..Head::default() };
        let mut writer = Writer::begin(&head);
        writer.end();
        let name = Name::new(&head, &own.manager);
        fs::write(dir.join(name.to_string()), &writer.buffer).expect("there is room");
        name
    }

    #[test]
    fn files_of_the_future_are_the_oldest_and_go_first() {
        let dir = tempfile::tempdir().expect("there is room");
        let own = Own { cluster: "ytrjj2w1ne7q".into(), manager: "m1".into() };
        let first = put(&own, dir.path(), NOW_MS - DAY_MS, 3);
        // The clock was wrong for a while, and then set right.
        let wrong: Vec<_> = (1..=3).map(|day| put(&own, dir.path(), NOW_MS + day * DAY_MS, 3 + day)).collect();
        let last = put(&own, dir.path(), NOW_MS, 9);
        let mut all = wrong.clone();
        all.extend([first.clone(), last.clone()]);
        assert_eq!(own.names(dir.path(), NOW_MS).expect("a directory"), all);
        for (keep, kept) in [(3, vec![wrong[2].clone(), first, last.clone()]), (1, vec![last])] {
            own.remove_surplus(dir.path(), keep, NOW_MS).expect("they can be removed");
            assert_eq!(own.names(dir.path(), NOW_MS).expect("a directory"), kept);
        }
    }
}
