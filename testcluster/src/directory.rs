//! The directory of a cluster: held by one supervisor, cleared of what an earlier one left, and removed at the end.
//! Touches nothing in it that a cluster does not write.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::daemons;
use crate::error::Error;
use crate::layout::CREDENTIALS;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::remains;
use crate::volumes;

/// Holds the directory for one supervisor.
pub fn lock(dir: &Path) -> Result<Flock<File>, Error> {
    let path = dir.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(Error::io("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let dir = dir.display();
        Error::failed(format!(
            "a cluster runs in {dir}; `testcluster --dir {dir} down` ends it, another --dir leaves it"
        ))
    })
}

/// Ends what a killed supervisor left, and removes its files. Refuses a directory that is something else's.
pub async fn clear(dir: &Path) -> Result<(), Error> {
    let Some(left) = Layout::load(dir)? else {
        let mut entries = std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lock")) {
            return Err(Error::usage(format!(
                "{} is not empty and not a test cluster's; give another --dir",
                dir.display()
            )));
        }
        return Ok(());
    };
    Ledger::open(dir)?.sweep();
    // The directory may have been moved; what it says about itself is then wrong.
    let left = Layout { dir: dir.to_owned(), ..left };
    if left.has_daemons {
        // They were swept away above, and their containers go the same way.
        daemons::sweep(&left).await;
    } else {
        remains::remove_all(&left).await?;
    }
    remove_files(dir)
}

/// Makes the directories in it that members do not make themselves.
pub fn furnish(layout: &Layout, is_backed_up: bool) -> Result<(), Error> {
    let backups = is_backed_up.then(|| layout.backups());
    for dir in [Some(layout.dir.join("logs")), backups].into_iter().flatten() {
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    }
    Ok(())
}

/// Removes what a cluster writes, and nothing else.
pub fn remove_files(dir: &Path) -> Result<(), Error> {
    volumes::unmount_all(dir)?;
    for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_member = name.starts_with(['m', 'w', 'd']) && name[1..].parse::<u8>().is_ok();
        let is_image = name.strip_suffix(".img").is_some_and(|name| name.starts_with('m'));
        let removed = match &*name {
            "logs" | "upgrade" | "load" | "backups" | crate::slow_disk::DIR => std::fs::remove_dir_all(&path),
            _ if is_member => std::fs::remove_dir_all(&path),
            _ if is_image => std::fs::remove_file(&path),
            "cluster.json" | "processes.json" | "processes.new" | "control.sock" | CREDENTIALS => {
                std::fs::remove_file(&path)
            }
            _ => Ok(()),
        };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
