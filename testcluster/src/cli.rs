//! The command line: what can be typed, and its help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use goat_testcluster::drill::Output;
use goat_testcluster::layout;
use goat_testcluster::runtime::RuntimeKind;

use crate::drill_args::DrillArgs;
use crate::link_args::{LinkArgs, SlowDiskArgs};
pub use crate::up_args::UpArgs;

/// A local GOAT cluster of real processes: start it, break it, heal it, rehearse its failures
#[derive(Debug, Parser)]
#[command(
    name = "testcluster",
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, or the drill passed; 1 failed; 2 wrong usage"
)]
pub struct Cli {
    /// The cluster's own directory [default: /tmp/goat-testcluster-UID; drills: one of their own]
    #[arg(long, visible_alias = "data-dir", global = true, env = "GOAT_TESTCLUSTER_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Which of several clusters side by side: the default directory with this behind it
    #[arg(long, global = true, env = "GOAT_TESTCLUSTER_TAG", conflicts_with = "dir", value_parser = tag)]
    pub tag: Option<String>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// It becomes part of a directory's name.
fn tag(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if fits { Ok(text.to_owned()) } else { Err("up to 32 letters, digits and - are expected".into()) }
}

impl Cli {
    /// Where the cluster is, or None for the default.
    pub fn named_dir(&self) -> Option<PathBuf> {
        let tagged = || self.tag.as_ref().map(|tag| layout::tagged_dir(tag));
        self.dir.clone().or_else(tagged)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RuntimeArg {
    /// docker where a daemon answers, else process
    #[default]
    Auto,
    Docker,
    /// Plain processes, without isolation
    Process,
}

impl RuntimeArg {
    pub const fn kind(self) -> Option<RuntimeKind> {
        match self {
            Self::Auto => None,
            Self::Docker => Some(RuntimeKind::Docker),
            Self::Process => Some(RuntimeKind::Process),
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster with echo in it, and show it until Ctrl-C (the default)
    Up(UpArgs),
    /// Show the processes of the running cluster and what is broken
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again every second, until Ctrl-C
        #[arg(short, long, conflicts_with = "json")]
        watch: bool,
    },
    /// Print the end of what members have logged
    Logs {
        /// m1, w1, ..., or: leader, follower, worker, random [default: all]
        name: Option<String>,
        /// Go on until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Lines of each
        #[arg(long, default_value_t = 20, value_name = "N")]
        tail: u32,
    },
    /// Print what sets up goatctl: eval "$(testcluster env)"
    Env,
    /// Kill a member by SIGKILL
    Kill {
        /// m1, w1, ..., or: leader, follower, worker, random
        name: String,
        /// Of a worker: its containers or processes too, as if its machine had died
        #[arg(long)]
        with_tasks: bool,
    },
    /// End a member by SIGTERM; tasks of a worker run on
    Stop {
        /// m1, w1, ..., or: leader, follower, worker, random
        name: String,
    },
    /// Start a member that was stopped or killed
    Start {
        /// m1, w1, ...
        name: String,
    },
    /// Let a manager join that does not run, with an empty directory, and start it
    Join {
        /// m4, ...
        name: String,
    },
    /// Stop a member and start it again
    Restart {
        /// m1, w1, ..., or: leader, follower, worker, random
        name: String,
    },
    /// Halt a member's process without ending it
    #[command(visible_alias = "freeze")]
    Pause {
        /// m1, w1, ..., or: leader, follower, worker, random
        name: String,
    },
    /// Let a paused member go on
    #[command(visible_alias = "thaw")]
    Resume {
        /// m1, w1, ...
        name: String,
    },
    /// Cut the link between two members: silently, as a pulled cable
    Cut {
        /// m1, w1, ..., or: leader, follower, worker, client (goatctl and everybody outside)
        from: String,
        /// As FROM
        to: String,
        /// Only what goes from FROM to TO
        #[arg(long)]
        one_way: bool,
    },
    /// Delay what goes between two members
    Delay {
        /// As with `cut`
        from: String,
        /// As with `cut`
        to: String,
        /// Milliseconds each way; 0 ends it
        ms: u64,
        /// Only what goes from FROM to TO
        #[arg(long)]
        one_way: bool,
    },
    /// Give the links between members the properties of a long, lossy or narrow one
    Link(LinkArgs),
    /// Make every fsync of a manager take longer; needs `up --slow-disks`
    SlowDisk(SlowDiskArgs),
    /// Cut every link of a member, as if its cable were pulled
    Isolate {
        /// m1, w1, ..., or: leader, follower, worker, random
        name: String,
    },
    /// Cut every link between two groups: testcluster partition m1,w1 / m2,m3
    ///
    /// Members that are not named, and clients, keep their links to everybody.
    Partition {
        /// Members separated by commas, groups by a /
        #[arg(required = true, num_args = 1.., value_name = "MEMBERS / MEMBERS")]
        groups: Vec<String>,
    },
    /// End all cuts, delays and other shapes of links, and slow disks
    Heal,
    /// End the cluster and everything that it runs
    Down {
        /// Keep the directory, for a look at logs and data
        #[arg(long)]
        keep: bool,
    },
    /// Rehearse a failure, measure it, and check that nothing was lost
    Drill(DrillArgs),
    /// Measure a cluster of its own against yardsticks in the same run
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure: idle, writes, create, many, restart [default: these]; and scale, which takes some ten minutes
    pub parts: Vec<String>,
    /// Tasks in part scale
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tasks: u32,
    /// Log entries in part scale
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub entries: u64,
    /// Seconds of writing
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Repetitions of what is measured one by one
    #[arg(long, default_value_t = 9, value_name = "N")]
    pub repeat: usize,
    /// What runs tasks
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeArg,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
