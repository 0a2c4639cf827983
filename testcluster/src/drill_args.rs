//! The command line of `testcluster drill`.

use std::path::PathBuf;

use clap::Args;
use goat_testcluster::drill::{DrillOptions, Kind, Output};

use crate::cli::RuntimeArg;

#[derive(Debug, Args)]
pub struct DrillArgs {
    /// What to rehearse; `list` says what there is, `all` runs everything
    #[arg(value_enum)]
    pub drill: Kind,
    /// How many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// What runs tasks, in a cluster of its own
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeArg,
    /// Writes a second meanwhile
    #[arg(long, default_value_t = 50.0, value_name = "WPS")]
    pub load: f64,
    /// Of random choices, to make the same ones again [default: another each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long what is broken stays so [default: the drill's own]
    #[arg(long, visible_alias = "down", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: Option<u64>,
    /// Log entries that a follower is behind in `thin-links` [default: 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub entries: Option<u64>,
    /// Fail also where a measure is over what the project has set itself
    #[arg(long)]
    pub strict: bool,
}

impl DrillArgs {
    pub fn into_options(self, dir: Option<PathBuf>) -> DrillOptions {
        DrillOptions {
            kind: self.drill,
            repeat: self.repeat,
            output: self.output,
            runtime: self.runtime.kind(),
            load_per_s: self.load,
            dir,
            seed: self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
            seconds: self.seconds,
            entries: self.entries,
            is_strict: self.strict,
        }
    }
}
