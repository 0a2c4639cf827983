//! A cluster with its control socket, for as long as one process hosts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::control;
use crate::error::Error;
use crate::layout::Member;
use crate::taskset::TaskSet;

const STOP_GRACE: Duration = Duration::from_secs(3);
const FORMED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A running cluster that answers on its control socket.
#[derive(Debug)]
pub struct Hosted {
    pub cluster: Arc<Cluster>,
    tasks: TaskSet,
    /// Cancelled when somebody has had the cluster taken down over the socket.
    pub down: CancellationToken,
}

impl Hosted {
    pub async fn start(options: Options) -> Result<Self, Error> {
        let cluster = Arc::new(Cluster::up(options).await?);
        let hosted = Self { cluster, tasks: TaskSet::new("supervisor"), down: CancellationToken::new() };
        match control::serve(hosted.cluster.clone(), &hosted.tasks, &hosted.down) {
            Ok(()) => Ok(hosted),
            Err(error) => {
                hosted.end(true).await?;
                Err(error)
            }
        }
    }

    /// What runs in the background until the end.
    pub const fn tasks(&self) -> &TaskSet {
        &self.tasks
    }

    pub fn dir(&self) -> PathBuf {
        self.cluster.layout().dir.clone()
    }

    /// Waits until a manager leads; fails at once when a manager ended by itself, with the end of its log.
    pub async fn formed(&self) -> Result<Client, Error> {
        let client = self.cluster.client()?.with_limits(Duration::from_millis(500), Duration::from_secs(1));
        let formed = async {
            loop {
                if let Ok(status) = client.status().await
                    && !status.leader.is_empty()
                {
                    return Ok(());
                }
                self.check_members().await?;
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(FORMED, formed).await {
            Ok(result) => result?,
            Err(_) => {
                let logs = self.dir().join("logs");
                let seconds = FORMED.as_secs();
                return Err(Error::failed(format!(
                    "no manager led within {seconds} s; see the logs in {}",
                    logs.display()
                )));
            }
        }
        self.cluster.client()
    }

    /// Waits until all workers are ready, so that what is started then is spread over them.
    pub async fn workers_ready(&self, client: &Client) -> Result<(), Error> {
        let workers = usize::from(self.cluster.layout().workers);
        let ready = async {
            loop {
                let nodes = client.nodes().await?;
                if nodes.iter().filter(|node| node.state == "ready").count() >= workers {
                    return Ok(());
                }
                self.check_members().await?;
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(FORMED, ready).await {
            Ok(result) => result,
            Err(_) => {
                let logs = self.dir().join("logs");
                let seconds = FORMED.as_secs();
                Err(Error::failed(format!(
                    "not all workers were ready within {seconds} s; see the logs in {}",
                    logs.display()
                )))
            }
        }
    }

    /// Waits until a service has all its replicas running.
    pub async fn service_runs(&self, client: &Client, name: &str) -> Result<(), Error> {
        let is_it = |service: &goat_proto::v1::Service| service.spec.as_ref().is_some_and(|spec| spec.name == name);
        let runs = async {
            loop {
                let services = client.services().await?;
                if services.iter().any(|found| is_it(found) && found.replicas_running >= found.replicas_desired) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(FORMED, runs).await {
            Ok(result) => result,
            Err(_) => {
                let seconds = FORMED.as_secs();
                let why = self.why_not(client, name).await;
                Err(Error::failed(format!("{name} did not run within {seconds} s:\n  {}", why.join("\n  "))))
            }
        }
    }

    /// What each task of a service says, and the end of each worker's log: the cluster may be gone before anybody asks.
    async fn why_not(&self, client: &Client, name: &str) -> Vec<String> {
        let mut told = match client.tasks(true).await {
            Err(error) => vec![format!("its tasks cannot be told: {error}")],
            Ok(tasks) => tasks.iter().filter(|task| task.service == name).map(told).collect(),
        };
        if told.is_empty() {
            told.push("it has no tasks".into());
        }
        for worker in (1..=self.cluster.layout().workers).map(|n| Member::Worker(n).name()) {
            told.push(format!("log of {worker}:"));
            told.extend(self.log_end(&worker).into_iter().map(|line| format!("  {line}")));
        }
        told
    }

    fn log_end(&self, member: &str) -> Vec<String> {
        const LINES: usize = 5;
        let text = std::fs::read_to_string(self.cluster.layout().log_path(member)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
    }

    async fn check_members(&self) -> Result<(), Error> {
        for member in self.cluster.status().await {
            if let crate::cluster::Condition::Ended(how) = member.condition {
                let last = self.log_end(&member.name).join("\n  ");
                return Err(Error::failed(format!("{} ended by itself ({how}):\n  {last}", member.name)));
            }
        }
        Ok(())
    }

    /// Takes the cluster down, unless that was done over the socket.
    pub async fn end(self, keep: bool) -> Result<(), Error> {
        if self.down.is_cancelled() {
            self.tasks.stop(STOP_GRACE).await;
            return Ok(());
        }
        self.tasks.stop(STOP_GRACE).await;
        self.cluster.down(keep).await
    }
}

fn told(task: &goat_proto::v1::Task) -> String {
    let goat_proto::v1::Task { slot, attempt, state, desired, node, reason, error, .. } = task;
    let at = if node.is_empty() { String::new() } else { format!(" on {node}") };
    let why: Vec<_> = [reason, error].into_iter().filter(|text| !text.is_empty()).map(String::as_str).collect();
    format!("slot {slot}, attempt {attempt}{at}: {state}, to be {desired}. {}", why.join(": "))
}
