//! `goat-fuzz`: all targets, or one, for so many cases or so long. What fails is written down and given again at the next
//! run, from the corpus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use goat_fuzz::mutate::Mutator;
use goat_fuzz::targets::ALL;
use goat_fuzz::{Target, try_bytes};

/// Gives decoders bytes that nobody meant. Ends with 1 where one falls.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// These alone
    targets: Vec<String>,
    /// Cases for each, at the most
    #[arg(long, default_value_t = u64::MAX)]
    cases: u64,
    /// Seconds for each, at the most
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes that were kept, a folder for each target
    #[arg(long, default_value = "tests/fuzz/corpus")]
    corpus: PathBuf,
    /// Give one file to one target
    #[arg(long)]
    file: Option<PathBuf>,
    /// Say what there is
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("goat-fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    let known: BTreeSet<&str> = ALL.iter().map(|target| target.name).collect();
    if options.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name.as_str())) {
        bail!("there is no target {unknown}; see --list");
    }
    let is_chosen =
        |target: &&Target| options.targets.is_empty() || options.targets.iter().any(|name| name == target.name);
    // What panics is told once, by its case.
    std::panic::set_hook(Box::new(|_| {}));
    let mut are_all_well = true;
    for target in ALL.iter().filter(is_chosen) {
        are_all_well &= match &options.file {
            Some(file) => one(target, &fs::read(file).with_context(|| format!("{}", file.display()))?),
            None => many(target, options)?,
        };
    }
    Ok(are_all_well)
}

fn one(target: &Target, bytes: &[u8]) -> bool {
    let tried = try_bytes(target, bytes);
    println!("{}: {}", target.name, tried.as_ref().err().map_or("it is well", String::as_str));
    tried.is_ok()
}

fn kept(dir: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.sort();
    files.iter().map(|file| Ok(fs::read(file)?)).collect()
}

/// Samples and the corpus as they are, then what is made of them.
fn many(target: &Target, options: &Options) -> anyhow::Result<bool> {
    let dir = options.corpus.join(target.name);
    let mut samples = (target.samples)();
    if samples.is_empty() {
        bail!("{} has no samples", target.name);
    }
    samples.extend(kept(&dir)?);
    let (began, mut mutator) = (Instant::now(), Mutator::new(options.seed));
    let mut cases = 0;
    let mut next = samples.clone().into_iter();
    let until = began + Duration::from_secs(options.seconds);
    while cases < options.cases && Instant::now() < until {
        let bytes = next.next().unwrap_or_else(|| mutator.next(&samples));
        cases += 1;
        if let Err(problem) = try_bytes(target, &bytes) {
            fs::create_dir_all(&dir)?;
            let path = dir.join(format!("found-{:08x}", crc32fast::hash(&bytes)));
            fs::write(&path, &bytes).with_context(|| format!("{}", path.display()))?;
            println!(
                "{}: FAILED at case {cases}: {problem}\nagain with: goat-fuzz {} --file {}",
                target.name,
                target.name,
                path.display()
            );
            return Ok(false);
        }
    }
    println!("{}: {cases} cases in {:.1} s", target.name, began.elapsed().as_secs_f64());
    Ok(true)
}
