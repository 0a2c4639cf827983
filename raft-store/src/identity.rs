//! `IDENTITY`: whose data directory this is. Written once and when the cluster's id becomes known, always whole and
//! synced; anything else in it than what this file writes is refused.
//!
//! ```text
//! goat raft store, format 1
//! node-id: 3
//! cluster-id: 5kq0...          (or "-" while not known)
//! crc32: 1c291ca3              of the lines above, line ends included
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::Error;

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "IDENTITY";
/// What it is called until it is whole.
pub(crate) const TEMPORARY_NAME: &str = "IDENTITY.tmp";
/// The newest layout of the data directory that this build reads and writes.
const FORMAT: u32 = 1;
const TITLE: &str = "goat raft store, format ";
const UNKNOWN_CLUSTER: &str = "-";
/// More than any file of ours: a wrong file is not read into memory.
const MAX_BYTES: u64 = 4_096;

/// Whose data a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, once known. Where given at open, another one on disk is refused.
    pub cluster_id: Option<String>,
    /// This manager's id in the group. Another one on disk is refused.
    pub node_id: u64,
}

/// The identity on disk, and its copy in memory.
#[derive(Debug)]
pub(crate) struct IdentityFile {
    path: PathBuf,
    current: Mutex<Identity>,
}

impl IdentityFile {
    /// Reads and compares the file, or writes it where there is none yet. The caller holds the directory's lock and has
    /// made sure that a directory without the file is empty.
    pub(crate) fn open(dir: &Path, wanted: &Identity) -> Result<Self, Error> {
        if let Some(id) = &wanted.cluster_id {
            check_cluster_id(id)?;
        }
        let path = dir.join(FILE_NAME);
        let current = match read(&path)? {
            Some(found) => agree(&path, found, wanted)?,
            None => {
                write(&path, wanted)?;
                wanted.clone()
            }
        };
        let file = Self { path, current: Mutex::new(current) };
        if let Some(id) = &wanted.cluster_id {
            file.set_cluster_id(id)?;
        }
        Ok(file)
    }

    pub(crate) fn get(&self) -> Identity {
        self.current.lock().clone()
    }

    /// Remembers the cluster's id. The same one again is fine, another one is refused.
    pub(crate) fn set_cluster_id(&self, id: &str) -> Result<(), Error> {
        check_cluster_id(id)?;
        let mut current = self.current.lock();
        match &current.cluster_id {
            Some(found) if found == id => Ok(()),
            Some(found) => Err(self.other_cluster(found, id)),
            None => {
                let named = Identity { cluster_id: Some(id.to_owned()), node_id: current.node_id };
                write(&self.path, &named)?;
                *current = named;
                Ok(())
            }
        }
    }

    /// Refuses what another cluster made. What names no cluster, or comes before this one knows its own, passes.
    pub(crate) fn check_cluster(&self, path: &Path, found: Option<&str>) -> Result<(), Error> {
        match (found, &self.current.lock().cluster_id) {
            (Some(found), Some(own)) if found != own => {
                Err(Error::OtherCluster { path: path.to_path_buf(), found: found.into(), wanted: own.clone() })
            }
            _ => Ok(()),
        }
    }

    fn other_cluster(&self, found: &str, wanted: &str) -> Error {
        Error::OtherCluster { path: self.path.clone(), found: found.into(), wanted: wanted.into() }
    }
}

fn check_cluster_id(id: &str) -> Result<(), Error> {
    let is_fine = (1..=128).contains(&id.len()) && id != UNKNOWN_CLUSTER && id.bytes().all(|b| b.is_ascii_graphic());
    if is_fine { Ok(()) } else { Err(Error::ClusterId { id: id.to_owned() }) }
}

fn agree(path: &Path, found: Identity, wanted: &Identity) -> Result<Identity, Error> {
    if found.node_id != wanted.node_id {
        return Err(Error::OtherNode { path: path.into(), found: found.node_id, wanted: wanted.node_id });
    }
    match (&found.cluster_id, &wanted.cluster_id) {
        (Some(on_disk), Some(asked)) if on_disk != asked => {
            Err(Error::OtherCluster { path: path.into(), found: on_disk.clone(), wanted: asked.clone() })
        }
        _ => Ok(found),
    }
}

pub(crate) fn read(path: &Path) -> Result<Option<Identity>, Error> {
    let damaged = |reason: String| Error::IdentityDamaged { path: path.to_path_buf(), reason };
    let size_bytes = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    if size_bytes > MAX_BYTES {
        return Err(damaged(format!("{size_bytes} bytes long")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|_| damaged("not a text".into()))?;
    match parse(&text) {
        Ok(identity) => Ok(Some(identity)),
        Err(Unreadable::Newer(found)) => Err(Error::NewerFormat { path: path.to_path_buf(), found, supported: FORMAT }),
        Err(Unreadable::Damaged(reason)) => Err(damaged(reason)),
    }
}

enum Unreadable {
    Newer(u32),
    Damaged(String),
}

fn parse(text: &str) -> Result<Identity, Unreadable> {
    let damaged = |reason: &str| Unreadable::Damaged(reason.to_owned());
    let mut lines = text.lines();
    let format = lines
        .next()
        .and_then(|line| line.strip_prefix(TITLE))
        .and_then(|format| format.parse::<u32>().ok())
        .ok_or_else(|| damaged("its first line is not ours"))?;
    // Before the checksum: how a newer build guards its file is its own affair.
    if format > FORMAT {
        return Err(Unreadable::Newer(format));
    }
    let mut field = |name: &str| -> Result<String, Unreadable> {
        let value = lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(": "));
        value.map(str::to_owned).ok_or_else(|| damaged(&format!("its line \"{name}\" is missing")))
    };
    let node_id = field("node-id")?;
    let cluster_id = field("cluster-id")?;
    let crc32 = field("crc32")?;
    let body_len = text.rfind("crc32: ").unwrap_or(0);
    if format!("{:08x}", crc32fast::hash(&text.as_bytes()[..body_len])) != crc32 {
        return Err(damaged("its checksum does not match"));
    }
    Ok(Identity {
        cluster_id: (cluster_id != UNKNOWN_CLUSTER).then_some(cluster_id),
        node_id: node_id.parse().map_err(|_| damaged("its node id is not a number"))?,
    })
}

fn render(identity: &Identity) -> String {
    let cluster_id = identity.cluster_id.as_deref().unwrap_or(UNKNOWN_CLUSTER);
    let body = format!("{TITLE}{FORMAT}\nnode-id: {}\ncluster-id: {cluster_id}\n", identity.node_id);
    format!("{body}crc32: {:08x}\n", crc32fast::hash(body.as_bytes()))
}

/// Whole or not at all: beside the old file, synced, then renamed over it.
fn write(path: &Path, identity: &Identity) -> Result<(), Error> {
    let temporary = path.with_file_name(TEMPORARY_NAME);
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(render(identity).as_bytes()).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("rename to", path))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes renames and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for cluster_id in [None, Some("c-1".to_owned())] {
            let identity = Identity { cluster_id, node_id: u64::MAX };
            assert!(matches!(parse(&render(&identity)), Ok(read) if read == identity));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let text = render(&Identity { cluster_id: Some("c-1".into()), node_id: 7 }).into_bytes();
        // All but the last line end, which carries nothing.
        for at in 0..text.len() - 1 {
            for bit in 0..7 {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << bit;
                let text = String::from_utf8(flipped).expect("seven bits are text");
                assert!(parse(&text).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_cluster_id_that_would_break_the_file_is_refused() {
        for id in ["", "-", "a b", "a\nnode-id: 9", "ü", &"x".repeat(129)] {
            assert!(matches!(check_cluster_id(id), Err(Error::ClusterId { .. })), "{id:?}");
        }
    }
}
