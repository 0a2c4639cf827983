//! `cluster`, `manager` and `operator`: the whole, and the managers themselves.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::WaitFlags;
use crate::values;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Print a token with which a machine joins, and how
    JoinToken {
        /// As what
        #[arg(value_enum)]
        role: Joining,
        /// Make a new one: those printed before are worth nothing from then on
        #[arg(long)]
        rotate: bool,
        /// Print only the token
        #[arg(short, long, conflicts_with = "output")]
        quiet: bool,
    },
    /// Show the certificate authority, and how far its rotation is
    Ca {
        #[command(subcommand)]
        command: Option<CaCommand>,
    },
    /// Make credentials for another user
    IssueClient {
        /// Whom they name
        name: String,
        /// Where they go; keep the file secret
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Users' certificates: list them, revoke one
    #[command(subcommand)]
    Client(ClientCommand),
    /// Let the managers use what their new version brings, for good
    ///
    /// Managers of a new version write nothing that an older one could not read, so that each can be replaced by the older
    /// version again. When all are of the new version and doing well, this ends that: the cluster uses the newest format
    /// that all of them read, and refuses older managers from then on. Repeating it changes nothing.
    Upgrade,
    /// Let a machine leave: a worker is drained, then forgotten; a manager hands over where it leads, and is removed
    ///
    /// Its process ends by itself with exit code 3 then. A manager is refused where `manager rm` refuses it.
    Leave {
        /// Name of a worker or a manager
        name: String,
        /// As what, where both bear the name
        #[arg(long = "as", value_enum, value_name = "ROLE")]
        role: Option<Joining>,
        /// Of a worker: move its tasks gently, within so long (see `node drain`)
        #[arg(long, value_name = "DURATION", value_parser = values::timeout)]
        deadline: Option<Duration>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Announce an outage of the managers: leased tasks run on without them
    ///
    /// Tasks with `on-disconnect stop` or `stop-if-isolated` stop when their worker hears from no leader for the length of
    /// its lease. This makes leases last longer, so that all managers can be stopped for a while. The price: until it is
    /// over, leased tasks of a worker that is lost are not moved. It ends by itself; a new leader counts from its beginning.
    /// `--stop` ends it early: workers give back their longer leases with the next heartbeats, and only those that are not
    /// heard keep them to the end.
    Freeze {
        /// How long the outage may last, a day at the most
        #[arg(long = "for", value_name = "DURATION", value_parser = values::timeout, required_unless_present = "stop")]
        length: Option<Duration>,
        /// Stop a freeze that was announced
        #[arg(long, conflicts_with = "length")]
        stop: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the names that certificates were issued for, and those that are revoked
    ///
    /// Certificates that were issued before the cluster's format was raised (`cluster upgrade`) are listed once they are renewed.
    Ls {
        /// Print only names, one a line
        #[arg(short, long, conflicts_with = "output")]
        quiet: bool,
    },
    /// Refuse all certificates of a name from now on
    ///
    /// The name is not issued again before the certificate authority is rotated. Requests that are under way are not ended.
    Revoke {
        /// As `cluster client ls` shows it, or as it was given to `cluster issue-client`
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Replace the certificate authority: every member gets a new certificate, no connection is dropped
    ///
    /// The new authority is announced first, signs when every member believes it, and is alone when every member has a
    /// certificate of its. Nodes that are down are not waited for, and have to join anew. Users' credentials made before
    /// are worth nothing afterwards: yours are renewed if you wait, others' with `goatctl context renew` while it goes on.
    Rotate {
        #[command(flatten)]
        wait: WaitFlags,
    },
}

/// Who may join with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Joining {
    Manager,
    Worker,
}

impl Joining {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Keep a cluster: its addresses (-H) and a copy of the credentials; it is meant from then on
    Add {
        name: String,
        /// Credentials, as `goat-manager init` and `cluster issue-client` write them
        file: Option<PathBuf>,
    },
    /// List what is kept
    Ls,
    /// Mean another cluster from now on
    Use { name: String },
    /// Forget a cluster, and the copy of its credentials
    Rm { name: String },
    /// Get a new certificate for the credentials in use: they last for a year
    Renew,
}

#[derive(Debug, Subcommand)]
pub enum ManagerCommand {
    /// List the managers, those on their way included
    Ls {
        /// Print only names, one a line
        #[arg(short, long, conflicts_with = "output")]
        quiet: bool,
    },
    /// Let a manager vote, as soon as it has caught up
    Promote {
        /// Name or number
        manager: String,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Take a manager's vote; it follows the log as a learner. A leader hands over first
    Demote {
        /// Name or number
        manager: String,
        /// Even if the managers that are left could not decide anything any more
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Say where a manager is reached from now on, after its machine got another address
    ///
    /// Start it at the new address first (`listen`): it is looked for there. Nothing else changes, and nobody else has to
    /// be restarted.
    SetAddress {
        /// Name or number
        manager: String,
        /// Where managers, workers and clients reach it
        // Named otherwise than the option of every command: clap would take one for the other.
        #[arg(value_name = "HOST:PORT")]
        new_address: String,
        /// Even if it does not answer there
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Remove a manager from the cluster, dead or alive. A leader hands over first
    ///
    /// Its process ends by itself. To let its machine take part again, empty its data directory and join anew. To replace
    /// a dead manager: remove it, then let another one join.
    Rm {
        /// Name or number
        manager: String,
        /// Even if the managers that are left could not decide anything any more
        #[arg(long)]
        force: bool,
        /// Its disk may be in other hands: replace both join tokens and the certificate authority, and list the services whose
        /// environment is on it
        #[arg(long)]
        compromised: bool,
        #[command(flatten)]
        wait: WaitFlags,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// The managers' Raft group
    #[command(subcommand)]
    Raft(RaftCommand),
    /// The cluster's state as a file
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Gather what a bug report needs into a .tar.gz
    ///
    /// Of every manager: version, options, metrics, the last log lines, sizes of directories; of the cluster: status, nodes,
    /// services, tasks, events. Values of environment variables, arguments, tokens and keys are left out. A manager that
    /// does not answer is named, in the archive and here.
    Debug {
        /// A file that is not there yet [default: goat-debug-TIME.tar.gz]
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save services, tasks and nodes as they are now
    ///
    /// Nothing is stopped for it. The file holds secrets (environment variables, the cluster's authority): it can be read by
    /// its owner only, and should stay so.
    Save {
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Read a file to the end and say what is in it; asks no manager
    Inspect { file: PathBuf },
    /// Bring services back as they were when a file was saved: one change, all of it or none
    ///
    /// Says first what comes back, is changed back or stays as it is. Tasks of services that are as in the file are not
    /// touched; nodes, managers, certificates and tokens stay as they are. For when no manager is left, there is
    /// `goat-manager init --from-snapshot`.
    Restore {
        file: PathBuf,
        /// Only these services [default: all]
        #[arg(value_name = "NAME")]
        only: Vec<String>,
        /// Remove services that are not in the file
        #[arg(long)]
        exact: bool,
        /// Also a file of another cluster
        #[arg(long)]
        from_other_cluster: bool,
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
    },
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
