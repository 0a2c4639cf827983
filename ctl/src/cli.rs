//! The command line: what can be typed, and its help texts. What a command does is `cmd`'s.

mod cluster;
mod globals;
mod node;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use goat_core::model::TaskState;

use crate::spec::SpecFlags;
use crate::values;

pub use cluster::{
    CaCommand, ClientCommand, ClusterCommand, ContextCommand, Joining, ManagerCommand, OperatorCommand, RaftCommand,
    SnapshotCommand,
};
pub use globals::Globals;
pub use node::NodeCommand;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 cannot be placed, 4 timed out, 5 no leader or no \
                          manager reachable, 6 tasks do not stay up";

/// Runs containers on a GOAT cluster, through any of its managers.
#[derive(Debug, Parser)]
#[command(name = "goatctl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a service from an image and wait until it runs
    Run(RunArgs),
    /// Services: what is to run
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Tasks: what does run
    #[command(subcommand)]
    Task(TaskCommand),
    /// Nodes: where it runs
    #[command(subcommand)]
    Node(NodeCommand),
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Managers: who decides
    #[command(subcommand)]
    Manager(ManagerCommand),
    /// For whoever runs the cluster
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// The cluster at a glance
    Status(ReadFlags),
    /// What has happened, and what happens
    Events(EventsArgs),
    /// Clusters kept by name, with addresses and credentials
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a shell's completion script
    Completion { shell: Shell },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man { dir: PathBuf },
    /// Print the versions of this client and of every member
    Version {
        /// Of this client alone, without asking a manager
        #[arg(long)]
        client: bool,
    },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the service [default: after the image, with a few digits]
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub spec: Box<SpecFlags>,
    #[command(flatten)]
    pub wait: ConvergeFlags,
    /// Image and its arguments; with --driver process, program and arguments. Options go before it
    #[arg(
        value_name = "IMAGE [ARGS]",
        help_heading = "Arguments",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub words: Vec<String>,
}

/// How long to wait for the effect of a change.
#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub struct WaitFlags {
    /// Do not wait for the change to take effect
    #[arg(short, long)]
    pub detach: bool,
    /// Longest wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = values::timeout)]
    pub wait_timeout: Duration,
    /// Print only the id, as soon as the change is accepted
    #[arg(short, long, conflicts_with = "output")]
    pub quiet: bool,
}

/// How long to wait for tasks that a change starts, and to watch them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub struct ConvergeFlags {
    #[command(flatten)]
    pub wait: WaitFlags,
    /// Succeed only after the tasks that the change started have run for so long; 0 does not watch them
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = values::duration_or_zero)]
    pub monitor: Duration,
}

#[derive(Debug, Args)]
pub struct ReadFlags {
    /// Let the manager answer from its own state, without asking the leader
    #[arg(long)]
    pub stale: bool,
}

#[derive(Debug, Args)]
pub struct ListFlags {
    /// Print only ids or names, one a line
    #[arg(short, long, conflicts_with = "output")]
    pub quiet: bool,
    #[command(flatten)]
    pub read: ReadFlags,
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Create a service and wait until it runs
    Create {
        /// Name of the service [default: after the image, with a few digits]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        spec: Box<SpecFlags>,
        #[command(flatten)]
        wait: ConvergeFlags,
        /// Image, then arguments (after -- where they begin with a dash); with --driver process, program and arguments
        #[arg(value_name = "IMAGE [-- ARGS]", help_heading = "Arguments")]
        words: Vec<String>,
    },
    /// Change a service: only what is given changes; tasks are replaced one by one where they must be
    ///
    /// Of the options that can be repeated, --env and --label add to what the service has (--env-rm and --label-rm remove);
    /// --publish, --mount, --constraint and --command, and the arguments after --, replace all that it had. Placement
    /// (--constraint, --max-per-node) moves tasks that run where it excludes them, one at a time. Labels reach the tasks that are
    /// started from then on; --restart and --on-disconnect hold for those that run, too.
    Update {
        /// Name or full id
        #[arg(value_name = "SERVICE")]
        reference: String,
        /// Image to run from now on
        #[arg(long)]
        image: Option<String>,
        /// Remove an environment variable
        #[arg(long, value_name = "KEY")]
        env_rm: Vec<String>,
        /// Remove a label
        #[arg(long, value_name = "KEY")]
        label_rm: Vec<String>,
        #[command(flatten)]
        spec: Box<SpecFlags>,
        #[command(flatten)]
        wait: ConvergeFlags,
        /// New arguments
        #[arg(last = true, help_heading = "Arguments")]
        args: Vec<String>,
    },
    /// List services
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// List the tasks of a service, slot by slot, with what was before
    Ps {
        /// Name, id, or the first 6 characters of the id or more
        #[arg(value_name = "SERVICE")]
        reference: String,
        /// Leave out tasks that have ended
        #[arg(long)]
        current: bool,
        #[command(flatten)]
        list: ListFlags,
    },
    /// Show everything about a service
    Inspect {
        /// Name, id, or the first 6 characters of the id or more
        #[arg(value_name = "SERVICE")]
        reference: String,
        #[command(flatten)]
        read: ReadFlags,
    },
    /// Change the number of tasks
    Scale {
        /// Name or full id
        #[arg(value_name = "SERVICE")]
        reference: String,
        /// How many tasks to keep running
        #[arg(allow_negative_numbers = true)]
        replicas: u32,
        #[command(flatten)]
        wait: ConvergeFlags,
    },
    /// Remove services and wait until their tasks have stopped
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or full ids
        #[arg(value_name = "SERVICE", required = true)]
        references: Vec<String>,
        #[command(flatten)]
        wait: WaitFlags,
    },
}

#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// List tasks
    #[command(visible_alias = "list")]
    Ls {
        /// With those that have ended
        #[arg(short, long)]
        all: bool,
        /// Only of this service
        #[arg(long)]
        service: Option<String>,
        /// Only on this node
        #[arg(long)]
        node: Option<String>,
        /// Only in this state
        #[arg(long, value_parser = values::one_of::<TaskState>)]
        state: Option<String>,
        #[command(flatten)]
        list: ListFlags,
    },
    /// Show everything about a task, and why it waits
    Inspect {
        /// SERVICE.SLOT, SERVICE if it has one task, id, or the first 6 characters of the id or more
        #[arg(value_name = "TASK")]
        reference: String,
        #[command(flatten)]
        read: ReadFlags,
    },
    /// Print a task's output
    Logs {
        /// SERVICE.SLOT, SERVICE if it has one task, id, or the first 6 characters of the id or more
        #[arg(value_name = "TASK")]
        reference: String,
        /// Go on as there is more
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines
        #[arg(short = 'n', long, value_name = "N")]
        tail: Option<u32>,
        /// With the time of each line
        #[arg(short, long)]
        timestamps: bool,
    },
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on as more happens
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only the last events of the past
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<u32>,
    /// Only since then: so long ago, as in 10m, or an RFC 3339 time, as in 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    pub since: Option<u64>,
    /// From this log index on
    #[arg(long, value_name = "INDEX", default_value_t = 0, hide_default_value = true)]
    pub since_index: u64,
}

#[cfg(test)]
mod tests;
