//! What each command does: one file per resource. Requests and printing; the rest is the manager's.

pub mod authority;
pub mod clients;
pub mod cluster;
pub mod compromised;
pub mod context;
pub mod debug;
pub mod events;
mod last_output;
pub mod leave;
pub mod logs;
pub mod manager;
pub mod node;
pub mod operator;
pub mod ps;
pub mod removal;
pub mod restore;
pub mod service;
pub mod snapshot;
pub mod status;
pub mod task;
pub mod update;
pub mod version;
mod words;

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use goat_proto::v1::{ReadInfo, ReadOptions};
use goat_tls::Role;

use crate::cli::{
    Cli, ClusterCommand, Command, ContextCommand, ManagerCommand, NodeCommand, OperatorCommand, RaftCommand, ReadFlags,
    ServiceCommand, SnapshotCommand, TaskCommand,
};
use crate::client::Client;
use crate::context::{Way, resolve};
use crate::exit::{Failure, say};
use crate::expiry;
use crate::output::{Out, span};

/// What every command works with.
#[derive(Debug)]
pub struct Context {
    pub client: Client,
    pub out: Out,
}

pub async fn run(cli: Cli) -> Result<(), Failure> {
    let out = Out::new(cli.globals.output);
    let command = match cli.command {
        Command::Completion { shell } => return completion(&out, shell),
        Command::Man { dir } => return man(&dir),
        Command::Operator(OperatorCommand::Snapshot(SnapshotCommand::Inspect { file })) => {
            return snapshot::inspect(&out, &file);
        }
        Command::Version { client: true } => return version::client(&out),
        Command::Context(command) if !matches!(command, ContextCommand::Renew) => {
            let file = cli.globals.credentials.clone();
            return context::run(with_file(command, file), cli.globals.address, cli.globals.plaintext, &out);
        }
        command => command,
    };
    let Way { addresses, transport, credentials } = resolve(&cli.globals)?;
    let own = transport.credentials().filter(|own| own.subject().role == Role::Client);
    let expires = credentials.as_ref().zip(own).map(|(file, own)| (own.valid().1, file.display().to_string()));
    if let Some(warning) = expires.as_ref().and_then(|(until_s, file)| expiry::warning(*until_s, file)) {
        say(&warning);
    }
    let context = Context { client: Client::new(addresses, transport, cli.globals.timeout), out };
    let done = run_asking(&context, command, credentials).await;
    done.map_err(|failure| match &expires {
        Some((until_s, file)) => expiry::explained(failure, *until_s, file),
        None => failure,
    })
}

/// Runs a command that asks a manager.
async fn run_asking(context: &Context, command: Command, credentials: Option<PathBuf>) -> Result<(), Failure> {
    match command {
        Command::Context(_) => context::renew(context, credentials).await,
        Command::Cluster(command) => run_cluster(context, command, credentials.as_deref()).await,
        Command::Run(run) => service::run(context, run).await,
        Command::Service(command) => run_service(context, command).await,
        Command::Task(command) => run_task(context, command).await,
        Command::Node(command) => run_node(context, command).await,
        Command::Manager(command) => run_manager(context, command, credentials.as_deref()).await,
        Command::Operator(OperatorCommand::Raft(command)) => match command {
            RaftCommand::ListPeers { quiet } => operator::list_peers(context, quiet).await,
            RaftCommand::TransferLeader { to } => operator::transfer_leader(context, to).await,
        },
        Command::Operator(OperatorCommand::Snapshot(SnapshotCommand::Save { file })) => {
            snapshot::save(context, &file).await
        }
        Command::Operator(OperatorCommand::Debug { file }) => debug::debug(context, file).await,
        Command::Operator(OperatorCommand::Snapshot(SnapshotCommand::Restore {
            file,
            only,
            exact,
            from_other_cluster: is_other_allowed,
            yes,
        })) => restore::restore(context, restore::Restore { file, only, exact, is_other_allowed, yes }).await,
        Command::Status(read) => status::status(context, &read).await,
        Command::Events(events) => events::events(context, events).await,
        Command::Version { .. } => version::all(context).await,
        Command::Completion { .. } | Command::Man { .. } | Command::Operator(_) => unreachable!("it asks no manager"),
    }
}

fn man(dir: &Path) -> Result<(), Failure> {
    let written = goat_system::man::write(Cli::command(), &crate::man::BOOK, dir);
    written.map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))
}

async fn run_service(context: &Context, command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Create { name, spec, wait, words } => {
            service::create(context, spec.into_spec(name, words)?, &wait).await
        }
        ServiceCommand::Update { reference, image, env_rm, label_rm, spec, wait, args } => {
            let patch = update::Patch { image, env_rm, label_rm, flags: *spec, args };
            update::update(context, reference, patch, &wait).await
        }
        ServiceCommand::Ls(list) => service::ls(context, &list).await,
        ServiceCommand::Ps { reference, current, list } => ps::ps(context, reference, current, &list).await,
        ServiceCommand::Inspect { reference, read } => service::inspect(context, reference, &read).await,
        ServiceCommand::Scale { reference, replicas, wait } => {
            service::scale(context, reference, replicas, &wait).await
        }
        ServiceCommand::Rm { references, wait } => removal::rm(context, references, &wait).await,
    }
}

async fn run_task(context: &Context, command: TaskCommand) -> Result<(), Failure> {
    match command {
        TaskCommand::Ls { all, service, node, state, list } => {
            let filter = task::Filter { all, service, node, state };
            task::ls(context, filter, &list).await
        }
        TaskCommand::Inspect { reference, read } => task::inspect(context, reference, &read).await,
        TaskCommand::Logs { reference, follow, tail, timestamps } => {
            logs::logs(context, goat_proto::v1::TaskLogsRequest { reference, follow, tail, timestamps }).await
        }
    }
}

async fn run_node(context: &Context, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls { state, list } => node::ls(context, state, &list).await,
        NodeCommand::Inspect { reference, read } => node::inspect(context, reference, &read).await,
        NodeCommand::Drain { reference, deadline, wait } => node::drain(context, reference, deadline, &wait).await,
        NodeCommand::Label { reference, labels } => node::label(context, reference, labels).await,
        NodeCommand::Activate { reference } => node::activate(context, reference).await,
        NodeCommand::Rm { references, force } => node::rm(context, references, force).await,
    }
}

async fn run_cluster(context: &Context, command: ClusterCommand, file: Option<&Path>) -> Result<(), Failure> {
    match command {
        ClusterCommand::JoinToken { role, rotate, quiet } => authority::join_token(context, role, rotate, quiet).await,
        ClusterCommand::Ca { command } => authority::ca(context, command, file).await,
        ClusterCommand::IssueClient { name, file } => authority::issue_client(context, name, file).await,
        ClusterCommand::Freeze { length, .. } => cluster::freeze(context, length).await,
        ClusterCommand::Client(command) => clients::run(context, command).await,
        ClusterCommand::Leave { name, role, deadline, wait } => {
            leave::leave(context, name, role, deadline, &wait).await
        }
        ClusterCommand::Upgrade => cluster::upgrade(context).await,
    }
}

async fn run_manager(context: &Context, command: ManagerCommand, file: Option<&Path>) -> Result<(), Failure> {
    use manager::Standing::{Learner, Removed, Voter};
    match command {
        ManagerCommand::Ls { quiet } => manager::ls(context, quiet).await,
        ManagerCommand::Promote { manager, wait } => manager::set(context, manager, Voter, false, &wait).await,
        ManagerCommand::Demote { manager, force, wait } => manager::set(context, manager, Learner, force, &wait).await,
        ManagerCommand::SetAddress { manager, new_address, force, wait } => {
            manager::set_address(context, manager, new_address, force, &wait).await
        }
        ManagerCommand::Rm { manager, force, compromised: true, wait } => {
            compromised::rm(context, manager, force, &wait, file).await
        }
        ManagerCommand::Rm { manager, force, wait, .. } => manager::set(context, manager, Removed, force, &wait).await,
    }
}

/// `--credentials FILE` says the same as the word.
fn with_file(command: ContextCommand, flag: Option<PathBuf>) -> ContextCommand {
    match command {
        ContextCommand::Add { name, file } => ContextCommand::Add { name, file: file.or(flag) },
        command => command,
    }
}

fn completion(out: &Out, shell: Shell) -> Result<(), Failure> {
    // By way of memory: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "goatctl", &mut script);
    out.bytes(&script)
}

impl ReadFlags {
    fn options(&self) -> Option<ReadOptions> {
        Some(ReadOptions { stale: self.stale })
    }
}

impl Context {
    /// Says where a stale answer comes from: on standard error, so that scripts are not in its way.
    fn note_staleness(&self, read: &ReadFlags, info: Option<ReadInfo>) {
        if read.stale {
            let age = span(info.unwrap_or_default().age_ms);
            say(&format!("stale: from {}, which last heard from the leader {age} ago", self.client.answered_by()));
        }
    }
}

/// A map as lines of KEY=VALUE, sorted.
fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut pairs: Vec<String> = map.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join("\n")
}
