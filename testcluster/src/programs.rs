//! Programs of the system, found whatever PATH the user has: Debian's users do not have the directories of system programs
//! in theirs, nor has a root shell that `su` starts without `-`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// Debian's directories of system programs.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// PATH with the directories of system programs at its end.
pub fn search_path() -> OsString {
    extended(&std::env::var_os("PATH").unwrap_or_default())
}

fn extended(path: &OsStr) -> OsString {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(path).filter(|dir| !dir.as_os_str().is_empty()).collect();
    dirs.extend(
        SYSTEM_DIRS.map(PathBuf::from).into_iter().filter(|dir| !std::env::split_paths(path).any(|had| had == *dir)),
    );
    // Only a directory with a colon in its name cannot be joined, and these were split at colons.
    std::env::join_paths(dirs).unwrap_or_else(|_| path.to_owned())
}

/// Whether there is such a program.
pub fn is_there(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(name).is_file())
}

/// Starts a program of that name, which finds others in [`search_path`] itself.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_programs_are_found_without_their_directories_in_the_path() {
        let users = OsStr::new("/usr/local/bin:/usr/bin:/bin");
        assert_eq!(extended(users), "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        let roots = OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        assert_eq!(extended(roots), roots);
        assert_eq!(extended(OsStr::new("")), "/usr/local/sbin:/usr/sbin:/sbin");
    }
}
