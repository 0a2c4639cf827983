//! `node`: where things run.

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
        /// Name, id, or beginning of the id
        #[arg(value_name = "NODE")]
        reference: String,
        #[command(flatten)]
        read: ReadFlags,
    },
    /// Move a node's tasks elsewhere, place nothing new there, and wait until it is empty
    Drain {
        /// Name, id, or beginning of the id
        #[arg(value_name = "NODE")]
        reference: String,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Place tasks on a node again
    Activate {
        /// Name, id, or beginning of the id
        #[arg(value_name = "NODE")]
        reference: String,
    },
    /// Forget a node that is down
    #[command(visible_alias = "remove")]
    Rm {
        /// Name, id, or beginning of the id
        #[arg(value_name = "NODE")]
        reference: String,
    },
}
