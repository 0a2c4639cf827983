//! How managers come to be members: the first makes the cluster, the others join it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use crate::error::Error;
use crate::launch;
use crate::layout::{Member, Part};

/// Where members look for the token: a command line could be read by everybody.
const TOKEN: &str = "GOAT_JOIN_TOKEN";
/// All that `goat-manager init` and `join` may take; they try for 30 s.
pub(crate) const ENTER_WITHIN: Duration = Duration::from_secs(40);
const MEMBERS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(2);

impl Cluster {
    /// Starts the first managers, one after the other. Returns when all of them vote.
    pub(super) async fn start_managers(&self) -> Result<(), Error> {
        for member in self.layout.first_managers() {
            self.enter(member, member == Member::Manager(1)).await?;
            self.start(&member.name()).await?;
        }
        let names: Vec<_> = self.layout.first_managers().map(Member::name).collect();
        self.wait_for_votes(&names).await
    }

    /// Lets all workers join, and starts them.
    pub(super) async fn start_workers(&self) -> Result<(), Error> {
        for n in 1..=self.layout.workers {
            let member = Member::Worker(n);
            self.enter(member, false).await?;
            self.start(&member.name()).await?;
        }
        Ok(())
    }

    /// Lets a manager that does not run join with an empty directory, and starts it. Returns as soon as it runs.
    pub async fn join(&self, name: &str) -> Result<(), Error> {
        let member = self.stopped_manager(name).await?;
        empty(&self.layout.data_dir(member))?;
        self.enter(member, false).await?;
        self.start(name).await
    }

    /// Makes a group of a manager alone that does not run.
    pub async fn recover(&self, name: &str) -> Result<(), Error> {
        let member = self.stopped_manager(name).await?;
        let (program, args) = launch::recover(&self.layout, &self.options.binaries, member);
        finished(&program, &args, None, name).await
    }

    /// Makes the cluster again out of a saved file in the empty directory of a manager that does not run, and starts it.
    pub async fn restore(&self, name: &str, file: &Path) -> Result<(), Error> {
        let member = self.stopped_manager(name).await?;
        empty(&self.layout.data_dir(member))?;
        if !self.layout.is_direct {
            self.links.open(member).await?;
        }
        let (program, args) = launch::restore(&self.layout, &self.options.binaries, member, file);
        finished(&program, &args, None, name).await?;
        self.start(name).await
    }

    async fn stopped_manager(&self, name: &str) -> Result<Member, Error> {
        let Part::Member(member @ Member::Manager(_)) = self.layout.part(name)? else {
            return Err(Error::usage(format!("{name} is no manager")));
        };
        if self.members.lock().await.get_mut(name).is_some_and(|running| running.ended().is_none()) {
            return Err(Error::failed(format!("{name} runs; stop it first")));
        }
        Ok(member)
    }

    async fn enter(&self, member: Member, is_first: bool) -> Result<(), Error> {
        if !self.layout.is_direct {
            self.links.open(member).await?;
        }
        let binaries = &self.options.binaries;
        let (program, args) = match is_first {
            true => launch::init(&self.layout, binaries, member),
            false => launch::join(&self.layout, binaries, member),
        };
        let token = if is_first { None } else { Some(self.token(member).await?) };
        finished(&program, &args, token, &member.name()).await
    }

    async fn token(&self, member: Member) -> Result<String, Error> {
        let role = match member {
            Member::Manager(_) => "manager",
            Member::Worker(_) => "worker",
        };
        self.client()?.join_token(role).await
    }

    async fn wait_for_votes(&self, names: &[String]) -> Result<(), Error> {
        let client = self.client()?.with_limits(ANSWER, ANSWER);
        let deadline = Instant::now() + MEMBERS_WITHIN;
        loop {
            let peers = client.peers().await.unwrap_or_default();
            let votes = |name: &String| {
                peers.iter().any(|peer| peer.name == *name && (peer.role == "leader" || peer.role == "follower"))
            };
            if names.iter().all(votes) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing: Vec<_> = names.iter().filter(|name| !votes(name)).cloned().collect();
                let logs = self.layout.log_path(&missing[0]);
                return Err(Error::failed(format!("no voters yet: {}; see {}", missing.join(", "), logs.display())));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Runs goat-manager to its end.
async fn finished(program: &Path, args: &[String], token: Option<String>, name: &str) -> Result<(), Error> {
    let what = args.first().map_or("", String::as_str);
    let mut command = tokio::process::Command::new(program);
    command.envs(token.map(|token| (TOKEN, token)));
    let running = command.args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(ENTER_WITHIN, running)
        .await
        .map_err(|_| Error::failed(format!("`goat-manager {what}` for {name} does not end in time")))?
        .map_err(Error::io("start", program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("`goat-manager {what}` for {name} failed: {}", said.trim())))
}

/// Removes what is in a directory, and not itself: it may be a file system of its own.
fn empty(dir: &Path) -> Result<(), Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    for entry in entries {
        let path: PathBuf = entry.map_err(Error::io("list", dir))?.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
