//! Many seeds, each in a process of its own: one simulation wants its process for itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;

/// What is to be run.
#[derive(Debug)]
pub struct Batch {
    pub seeds: Range<u64>,
    pub jobs: usize,
    pub is_twice: bool,
    /// Of each seed's process, beside its seed.
    pub arguments: Vec<String>,
}

/// `A..B`.
pub fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("A..B is expected, as 1..100")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("there is no seed in it".into()) } else { Ok(range) }
}

#[derive(Debug, Default)]
struct Total {
    done: u64,
    failed: Vec<u64>,
    /// Their two traces differ.
    unlike: Vec<u64>,
    simulated_s: f64,
    computed_s: f64,
    sums: BTreeMap<String, u64>,
    digests: BTreeMap<u64, String>,
}

impl Total {
    fn add(&mut self, seed: u64, is_fine: bool, output: &str) {
        self.done += 1;
        let head = output.lines().find(|line| line.starts_with("seed=")).unwrap_or_default();
        let values: BTreeMap<&str, &str> = head.split_whitespace().filter_map(|part| part.split_once('=')).collect();
        let float = |key: &str| values.get(key).and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        self.simulated_s += float("simulated_s");
        self.computed_s += float("real_s");
        for key in ["faults", "requests", "entries", "terms", "tasks", "events"] {
            *self.sums.entry(key.into()).or_default() += float(key) as u64;
        }
        let digest = values.get("digest").copied().unwrap_or("none").to_owned();
        if let Some(before) = self.digests.insert(seed, digest.clone())
            && before != digest
        {
            self.unlike.push(seed);
        }
        if !is_fine {
            self.failed.push(seed);
            println!("{output}");
        }
    }

    /// The end of it all. Whether everything was fine.
    fn conclude(&self, batch: &Batch) -> bool {
        let sums: Vec<String> = self.sums.iter().map(|(key, sum)| format!("{key} {sum}")).collect();
        println!("{}", sums.join(", "));
        if batch.is_twice {
            println!("{} of {} seeds gave one trace twice", self.digests.len() - self.unlike.len(), self.digests.len());
        }
        if !self.failed.is_empty() {
            println!("failed: {:?}", self.failed);
        }
        if !self.unlike.is_empty() {
            println!("not the same twice: {:?}", self.unlike);
        }
        self.failed.is_empty() && self.unlike.is_empty()
    }

    fn show(&self, began: Instant, of: u64) {
        let hours = self.simulated_s / 3_600.0;
        let real_s = began.elapsed().as_secs_f64();
        println!(
            "{} of {of} runs: {hours:.1} simulated hours in {real_s:.0} s, {:.0} x real time, {:.0} x per core; {} failed",
            self.done,
            self.simulated_s / real_s,
            self.simulated_s / self.computed_s.max(0.001),
            self.failed.len()
        );
    }
}

struct Running {
    seed: u64,
    child: Child,
}

fn start(seed: u64, batch: &Batch) -> anyhow::Result<Running> {
    let program = std::env::current_exe().context("this program's own path")?;
    let child = Command::new(program)
        .arg(format!("--seed={seed}"))
        .args(&batch.arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("a process for a seed")?;
    Ok(Running { seed, child })
}

/// Runs them all, and says how it went. Whether everything was fine.
pub fn run(batch: &Batch) -> anyhow::Result<bool> {
    let began = Instant::now();
    let times = if batch.is_twice { 2 } else { 1 };
    let mut waiting = batch.seeds.clone().flat_map(|seed| std::iter::repeat_n(seed, times));
    let of = (batch.seeds.end - batch.seeds.start) * times as u64;
    let (done, finished) = std::sync::mpsc::channel();
    let mut total = Total::default();
    let mut running = 0;
    loop {
        while running < batch.jobs.max(1) {
            let Some(seed) = waiting.next() else { break };
            let one = start(seed, batch)?;
            let done = done.clone();
            std::thread::spawn(move || drop(done.send((one.seed, one.child.wait_with_output()))));
            running += 1;
        }
        if running == 0 {
            break;
        }
        let (seed, output) = finished.recv().context("a process that was waited for")?;
        running -= 1;
        let output = output.context("what a process said")?;
        total.add(seed, output.status.success(), &String::from_utf8_lossy(&output.stdout));
        if total.done % 10 == 0 {
            total.show(began, of);
        }
    }
    total.show(began, of);
    Ok(total.conclude(batch))
}
