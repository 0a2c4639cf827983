//! The clocks of members' machines: each with a rate of its own, and a time of day that can be stepped. Played by a library
//! (`examples/drifting.rs`) that is loaded before others and reads a file, which all programs of a machine share.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use goat_testcluster::cluster::Options;
use nix::time::{ClockId, clock_gettime};

/// Where the step is, after four other numbers.
const STEP_AT: u64 = 4 * 8;
const NUMBERS: usize = 6;

/// By member.
#[derive(Debug)]
pub struct Clocks {
    files: BTreeMap<String, PathBuf>,
    library: PathBuf,
}

impl Clocks {
    /// Makes a file for each member, with how wrong its rate is, in a directory beside the cluster's.
    ///
    /// # Errors
    /// Where the library is not built, or the files cannot be written.
    pub fn make(dir: &Path, ppm: &[(String, i64)]) -> anyhow::Result<Self> {
        let library = Options::binaries()?.join("examples/libdrifting.so");
        anyhow::ensure!(
            library.is_file(),
            "{} is missing: build it with `cargo build -p goat-proving --examples`",
            library.display()
        );
        let own = dir.with_extension("clocks");
        std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let mut files = BTreeMap::new();
        for (name, ppm) in ppm {
            let mut numbers = [0_i64; NUMBERS];
            for (at, clock) in
                [ClockId::CLOCK_REALTIME, ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME].iter().enumerate()
            {
                let now = clock_gettime(*clock)?;
                numbers[at] = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
            }
            numbers[3] = *ppm;
            let path = own.join(name);
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            files.insert(name.clone(), path);
        }
        Ok(Self { files, library })
    }

    /// What makes each member's programs go by them.
    pub fn env(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let library = self.library.display().to_string();
        let env = |path: &PathBuf| {
            vec![("LD_PRELOAD".to_owned(), library.clone()), ("DRIFTING_CLOCK".to_owned(), path.display().to_string())]
        };
        self.files.iter().map(|(name, path)| (name.clone(), env(path))).collect()
    }

    /// Moves a member's time of day, so much from what is right.
    ///
    /// # Errors
    /// Where there is no such member.
    pub fn step(&self, name: &str, ms: i64) -> anyhow::Result<()> {
        let path = self.files.get(name).with_context(|| format!("{name} has no clock"))?;
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(file.write_all_at(&(ms * 1_000_000).to_ne_bytes(), STEP_AT)?)
    }
}
