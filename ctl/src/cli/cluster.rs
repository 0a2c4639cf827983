//! `cluster` and `operator`: the whole, and the managers themselves.

use std::time::Duration;

use clap::Subcommand;

use crate::values;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Announce an outage of the managers: leased tasks run on without them
    ///
    /// Tasks with `on-disconnect stop` or `stop-if-isolated` stop when their worker hears from no leader for the length of
    /// its lease. This makes leases last longer, so that all managers can be stopped for a while. The price: until it is
    /// over, leased tasks of a worker that is lost are not moved. It ends by itself; a new leader counts from its beginning.
    Freeze {
        /// How long the outage may last, a day at the most
        #[arg(long = "for", value_name = "DURATION", value_parser = values::timeout)]
        length: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// The managers' Raft group
    #[command(subcommand)]
    Raft(RaftCommand),
}

#[derive(Debug, Subcommand)]
pub enum RaftCommand {
    /// List the managers and how far each has come
    ListPeers {
        /// Print only names, one a line
        #[arg(short, long, conflicts_with = "output")]
        quiet: bool,
    },
    /// Let another manager lead
    TransferLeader {
        /// Name or id of the manager [default: the one most up to date]
        #[arg(long, value_name = "MANAGER", default_value = "", hide_default_value = true)]
        to: String,
    },
}
