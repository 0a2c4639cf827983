//! The control: managers that say that their logs are synced, and do not sync them. A power loss has to cost acknowledged
//! writes then; a check that finds none lost finds nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use goat_testcluster::cluster::Options;

/// Makes a directory of programs beside `dir` in which managers forget.
///
/// # Errors
/// Where the library is not built, or the directory cannot be written.
pub fn programs(dir: &Path) -> anyhow::Result<PathBuf> {
    let binaries = Options::binaries()?;
    let library = binaries.join("examples/libforgetful.so");
    anyhow::ensure!(
        library.is_file(),
        "{} is missing: build it with `cargo build -p goat-proving --examples`",
        library.display()
    );
    let own = dir.with_extension("forgetful");
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    for program in ["goat-manager", "goat-worker"] {
        let script = own.join(program);
        let real = binaries.join(program);
        let text = format!("#!/bin/sh\nLD_PRELOAD='{}' exec '{}' \"$@\"\n", library.display(), real.display());
        std::fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(own)
}
