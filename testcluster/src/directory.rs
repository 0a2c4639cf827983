//! The directory of a cluster: held by one supervisor, cleared of what an earlier one left, and removed at the end.
//! Touches nothing in it that a cluster does not write, and no directory of another user: what it says about processes would
//! be that user's word.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};

use crate::daemons;
use crate::echo;
use crate::error::Error;
use crate::layout::CREDENTIALS;
use crate::layout::{self, Layout};
use crate::ledger::Ledger;
use crate::remains;
use crate::volumes;

const LOCK: &str = "lock";
/// Write permissions of the group and of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Makes the directory for this user alone; its own name, without links. One that is there already must be this user's.
pub fn make(dir: &Path) -> Result<PathBuf, Error> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("make", dir)(error)),
        _ => check_owner(dir)?,
    }
    dir.canonicalize().map_err(Error::io("find", dir))
}

/// Refuses a directory that another user owns or may write into: names in /tmp can be taken by anybody.
pub fn check_owner(dir: &Path) -> Result<(), Error> {
    let own = nix::unistd::geteuid();
    // A link too: its owner decides where it leads.
    let link = std::fs::symlink_metadata(dir).map_err(Error::io("look at", dir))?;
    let found = std::fs::metadata(dir).map_err(Error::io("look at", dir))?;
    let shown = dir.display();
    if let Some(owner) = [link.uid(), found.uid()].into_iter().find(|owner| *owner != own.as_raw()) {
        let (owner, own) = (user_name(owner.into()), user_name(own));
        return Err(Error::failed(format!("{shown} belongs to {owner}, and you are {own}: give a --dir of your own")));
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::failed(format!(
            "{shown} can be written to by other users (mode {mode:o}): run `chmod go-w {shown}`, or give another --dir"
        )));
    }
    Ok(())
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// Holds the directory for one supervisor.
pub fn lock(dir: &Path) -> Result<Flock<File>, Error> {
    let taken = || {
        let dir = dir.display();
        Error::failed(format!(
            "a cluster runs in {dir}; `testcluster --dir {dir} down` ends it, another --dir leaves it"
        ))
    };
    try_lock(dir)?.ok_or_else(taken)
}

/// `None` if a supervisor holds it.
fn try_lock(dir: &Path) -> Result<Option<Flock<File>>, Error> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(Error::io("open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Error::io("lock", &path)(errno.into())),
    }
}

/// Whether a supervisor left the directory without taking its cluster down: its socket is there, and nobody answers.
pub fn is_abandoned(dir: &Path) -> bool {
    layout::control_socket(dir).exists() && matches!(Layout::load(dir), Ok(Some(_)))
}

/// Ends what a killed supervisor left, and removes the directory unless `keep`.
pub async fn end_abandoned(dir: &Path, keep: bool) -> Result<(), Error> {
    check_owner(dir)?;
    let Some(_lock) = try_lock(dir)? else {
        return Err(Error::failed(format!(
            "the supervisor of the cluster in {} lives and does not answer; end it with SIGTERM, or with SIGKILL, and \
             repeat this",
            dir.display()
        )));
    };
    end_left(dir).await?;
    if keep { close(dir) } else { remove(dir) }
}

/// Ends what a killed supervisor left, and removes its files. Refuses a directory that is something else's.
pub async fn clear(dir: &Path) -> Result<(), Error> {
    if !end_left(dir).await? {
        let mut entries = std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK)) {
            return Err(Error::usage(format!(
                "{} is not empty and not a test cluster's; give another --dir",
                dir.display()
            )));
        }
        return Ok(());
    }
    remove_files(dir)
}

/// Ends processes and containers of the cluster whose directory that is. Returns `false` if it is no cluster's.
async fn end_left(dir: &Path) -> Result<bool, Error> {
    let Some(left) = Layout::load(dir)? else { return Ok(false) };
    Ledger::open(dir)?.sweep();
    // The directory may have been moved; what it says about itself is then wrong.
    let left = Layout { dir: dir.to_owned(), ..left };
    if left.has_daemons {
        // They were swept away above, and their containers go the same way.
        daemons::sweep(&left).await;
    } else {
        remains::remove_all(&left).await?;
        echo::withdraw(&left).await?;
    }
    Ok(true)
}

/// Makes the directories in it that members do not make themselves.
pub fn furnish(layout: &Layout, is_backed_up: bool) -> Result<(), Error> {
    let backups = is_backed_up.then(|| layout.backups());
    for dir in [Some(layout.dir.join("logs")), backups].into_iter().flatten() {
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    }
    Ok(())
}

/// Marks the cluster as taken down, and leaves its files to be looked at.
pub fn close(dir: &Path) -> Result<(), Error> {
    let socket = layout::control_socket(dir);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &socket)(error)),
        _ => Ok(()),
    }
}

/// Removes what a cluster writes, and the directory if nothing else is in it.
pub fn remove(dir: &Path) -> Result<(), Error> {
    remove_files(dir)?;
    let _ = std::fs::remove_file(dir.join(LOCK));
    // It may hold what is not ours.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}

/// Removes what a cluster writes, and nothing else.
fn remove_files(dir: &Path) -> Result<(), Error> {
    volumes::unmount_all(dir)?;
    for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_member = name.starts_with(['m', 'w', 'd']) && name[1..].parse::<u8>().is_ok();
        let is_image = name.strip_suffix(".img").is_some_and(|name| name.starts_with('m'));
        let removed = match &*name {
            "logs" | "upgrade" | "load" | "backups" | "registry" | crate::slow_disk::DIR => {
                std::fs::remove_dir_all(&path)
            }
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn only_a_directory_that_nobody_else_writes_to_is_used() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("a/cluster");
        make(&dir).expect("made");
        assert_eq!(std::fs::metadata(&dir).expect("it is there").permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("set");
        make(&dir).expect("there already");
        std::fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("set");
        let refused = make(&dir).expect_err("others can write").to_string();
        assert!(refused.contains("mode 777") && refused.contains("chmod go-w"), "{refused}");
    }

    #[test]
    fn a_directory_of_another_user_is_left_alone() {
        if !nix::unistd::geteuid().is_root() {
            let _ =
                std::io::Write::write_all(&mut std::io::stderr(), b"LEFT OUT: only root can give a directory away\n");
            return;
        }
        let parent = tempfile::tempdir().expect("a directory");
        let nobody = Uid::from_raw(65534);
        let theirs = parent.path().join("theirs");
        make(&theirs).expect("made");
        nix::unistd::chown(&theirs, Some(nobody), None).expect("given away");
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).expect("linked");
        std::os::unix::fs::lchown(&link, Some(nobody.as_raw()), None).expect("given away");
        for dir in [theirs, link] {
            let refused = make(&dir).expect_err("another's").to_string();
            assert!(refused.contains("belongs to nobody") && refused.contains("--dir"), "{refused}");
        }
    }
}
