//! `goat-manager init`: makes a cluster of one manager in a data directory, and ends. All that it needs later is in the
//! log and the rows then, as if it had run for long.
//!
//! Cut off in the middle, it is simply repeated: each step looks whether it was taken before.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use goat_core::codec;
use goat_core::model::{Authority, ClusterId, JoinSecrets, Secret};
use goat_core::state::Security;
use goat_core::state::command::{Action, Command, Outcome};
use goat_raft_store::Base;
use goat_tls::token::new_secret;
use goat_tls::{Role, Transport};

use crate::clock;
use crate::config::{Config, Options};
use crate::identity::is_repeated;
use crate::machine::View;
use crate::newcomer::Newcomer;
use crate::raft::peers::Peers;
use crate::raft::proposer::Error;
use crate::raft::{Group, Seated};
use crate::security;
use crate::security::issue::issue;
use crate::taskset::TaskSet;

/// The first manager's.
const FIRST: u64 = 1;
const ELECTED_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whom the first user's certificate names.
const FIRST_CLIENT: &str = "admin";

/// Makes the cluster. Returns its id. `client`: where the first user's credentials go.
pub async fn found(newcomer: &Newcomer, client: &Path) -> anyhow::Result<ClusterId> {
    found_on(newcomer, client, None).await
}

/// The same on another database than RocksDB.
pub async fn found_on(newcomer: &Newcomer, client: &Path, base: Option<Base>) -> anyhow::Result<ClusterId> {
    let seated = Seated { id: FIRST, cluster: prepared(newcomer)? };
    let view = View::new();
    let peers = Peers::new(Transport::plaintext(), None);
    let group = Group::start(&alone(newcomer)?, seated, peers, view, base, &TaskSet::new("init")).await?;
    let outcome = fill(&group, newcomer, client).await;
    group.shutdown().await;
    outcome.map(|()| seated.cluster)
}

/// The cluster's id: a new one, or that of an attempt which was cut off.
fn prepared(newcomer: &Newcomer) -> anyhow::Result<ClusterId> {
    let dir = &newcomer.data_dir;
    match Seated::of(dir)? {
        Some(Seated { id: FIRST, cluster }) => Ok(cluster),
        Some(other) => anyhow::bail!(
            "{} belongs to manager number {} of cluster {} already: start it with `goat-manager run`, or give an empty directory",
            dir.display(),
            other.id,
            other.cluster
        ),
        None => {
            let cluster = ClusterId::from_random(clock::random());
            Seated { id: FIRST, cluster }.claim(dir)?;
            Ok(cluster)
        }
    }
}

/// With nobody to wait for, an election need not take long.
fn alone(newcomer: &Newcomer) -> anyhow::Result<Config> {
    let options = Options {
        data_dir: Some(newcomer.data_dir.clone()),
        heartbeat_interval_ms: Some(20),
        election_timeout_min_ms: Some(50),
        election_timeout_max_ms: Some(100),
        ..Options::default()
    };
    Ok(options.into_config()?)
}

async fn fill(group: &Group, newcomer: &Newcomer, client: &Path) -> anyhow::Result<()> {
    let is_complete = newcomer.is_plaintext || security::path(&newcomer.data_dir).exists();
    if group.view().read().manager(FIRST).is_some() && is_complete {
        anyhow::bail!(
            "{} belongs to the first manager of cluster {} already: start it with `goat-manager run`, or give an empty directory",
            newcomer.data_dir.display(),
            group.cluster()
        );
    }
    group.initialize(&newcomer.name, &newcomer.address).await?;
    let deadline = tokio::time::Instant::now() + ELECTED_WITHIN;
    while !group.leader().is_some_and(|leader| leader.is_here) {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "Raft elects no leader of one; look at the disk");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut actions = vec![Action::InitCluster { id: group.cluster() }];
    // There is no older manager yet that would have to read it.
    if group.view().read().format() < codec::FORMAT {
        actions.push(Action::SetFormat { format: codec::FORMAT });
    }
    if group.view().read().manager(FIRST).is_none() {
        actions.push(Action::AddManager { name: newcomer.name.clone(), address: newcomer.address.clone() });
    }
    if !newcomer.is_plaintext {
        actions.push(new_authority(group.cluster())?);
    }
    for action in actions {
        propose(group, action, deadline).await.context("the first entries could not be written; look at the disk")?;
    }
    if !newcomer.is_plaintext {
        let security = group.view().read().security().cloned();
        let security = security.context("the certificate authority is not in the state")?;
        let seated = Seated { id: FIRST, cluster: group.cluster() };
        write_credentials(&security, seated, &newcomer.data_dir, client)?;
    }
    Ok(())
}

fn new_authority(cluster: ClusterId) -> Result<Action, goat_tls::Error> {
    let made = goat_tls::Authority::new(&cluster.to_string(), SystemTime::now())?;
    let authority = Authority { certificate: made.certificate().to_owned(), key: Secret::new(made.key()) };
    let secrets = JoinSecrets { manager: Secret::new(new_secret()?), worker: Secret::new(new_secret()?) };
    Ok(Action::InitSecurity { authority, secrets })
}

/// The manager's own last: with them the directory counts as complete.
pub(crate) fn write_credentials(
    security: &Security,
    seated: Seated,
    data_dir: &Path,
    client: &Path,
) -> anyhow::Result<()> {
    let Seated { id, cluster } = seated;
    issue(security, cluster, Role::Client, FIRST_CLIENT)?.store(client)?;
    issue(security, cluster, Role::Manager, &id.to_string())?.store(&security::path(data_dir))?;
    Ok(())
}

/// Just elected, a leader cannot propose for a moment.
async fn propose(group: &Group, action: Action, deadline: tokio::time::Instant) -> anyhow::Result<()> {
    let command = Command { now_ms: clock::now_ms(), request: None, action };
    loop {
        match group.propose_here(&command).await {
            Ok(accepted) => {
                return match accepted.outcome {
                    Outcome::Done(_) => Ok(()),
                    Outcome::Refused(refusal) if is_repeated(&refusal) => Ok(()),
                    Outcome::Refused(refusal) => Err(refusal.into()),
                };
            }
            Err(Error::NotLeader) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => return Err(error.into()),
        }
    }
}
