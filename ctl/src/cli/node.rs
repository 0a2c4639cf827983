//! `node`: where things run.

use std::time::Duration;

use clap::Subcommand;
use goat_core::model::NodeState;

use super::{ListFlags, ReadFlags, WaitFlags};
use crate::values;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes
    #[command(visible_alias = "list")]
    Ls {
        /// Only in this state
        #[arg(long, value_parser = values::one_of::<NodeState>)]
        state: Option<String>,
        #[command(flatten)]
        list: ListFlags,
    },
    /// Show everything about a node
    Inspect {
        /// Name, id, or the first 6 characters of the id or more
        #[arg(value_name = "NODE")]
        reference: String,
        #[command(flatten)]
        read: ReadFlags,
    },
    /// Move a node's tasks elsewhere, place nothing new there, and wait until it is empty
    ///
    /// Without a deadline all tasks are stopped at once, and wait where no other node has room. With one they go one of a
    /// service at a time, while all others of it run, and only where another node has room; what is still there when the
    /// time is up is stopped in any case. Repeating it replaces the deadline. `node activate` undoes it.
    Drain {
        /// Name or full id
        #[arg(value_name = "NODE")]
        reference: String,
        /// Gently, within so long; 30 days at the most
        #[arg(long, value_name = "DURATION", value_parser = values::timeout)]
        deadline: Option<Duration>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Place tasks on a node again
    Activate {
        /// Name or full id
        #[arg(value_name = "NODE")]
        reference: String,
    },
    /// Set labels that a worker cannot give to itself, for constraints of services with secrets
    ///
    /// Keys begin with `operator/`. A worker declares other labels in its configuration, and a worker in wrong hands declares
    /// what it likes.
    Label {
        /// Name or full id
        #[arg(value_name = "NODE")]
        reference: String,
        /// Labels to set; KEY- removes one
        #[arg(value_name = "operator/KEY=VALUE", required = true)]
        labels: Vec<String>,
    },
    /// Forget nodes that are down, or that are drained and empty
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or full ids
        #[arg(value_name = "NODE", required = true)]
        references: Vec<String>,
        /// Also a node that is alive, as where its machine is in wrong hands: refuse its certificate, wait until its lease has
        /// run out, and move its tasks
        #[arg(long)]
        force: bool,
    },
}
