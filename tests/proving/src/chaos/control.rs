//! The control: something is broken on purpose, in the middle of a storm, that the judges have to find.

use std::time::Duration;

use anyhow::Context as _;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters as query;
use goat_testcluster::echo;
use goat_testcluster::layout::Member;
use goat_testcluster::process::{ProcessId, command_lines};
use goat_testcluster::remains;
use goat_testcluster::runtime::docker_of;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::Control;
use super::causes::Kind;
use super::fault::Fault;
use super::ground::Ground;
use super::services::STOP;

/// Longer than the leader waits before it gives a slot away.
const UNFENCED: Duration = Duration::from_secs(25);
/// For a running instance to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

impl Ground<'_> {
    /// Breaks it; returns when it is not broken any more.
    pub(super) async fn sabotage(&self, control: Control) -> anyhow::Result<()> {
        match control {
            Control::SecondContainer => self.second_container().await,
            Control::NoFence => self.no_fence().await,
        }
    }

    /// A running instance of the service that must never have two.
    async fn instance(&self) -> anyhow::Result<(Member, remains::Labels)> {
        let deadline = Instant::now() + FOUND_WITHIN;
        let layout = self.cluster.layout();
        loop {
            for worker in layout.members().filter(|member| matches!(member, Member::Worker(_))) {
                let there = remains::containers_of(layout, worker, false).await.unwrap_or_default();
                let is_one = |labels: &remains::Labels| labels.get("io.goat.service").is_some_and(|name| name == STOP);
                if let Some((_, labels)) = there.into_iter().find(|(_, labels)| is_one(labels)) {
                    return Ok((worker, labels));
                }
            }
            anyhow::ensure!(Instant::now() < deadline, "no instance of {STOP} runs");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn second_container(&self) -> anyhow::Result<()> {
        let layout = self.cluster.layout();
        let (holder, mut labels) = self.instance().await?;
        let other = layout.members().find(|member| matches!(member, Member::Worker(_)) && *member != holder);
        let other = other.context("there is one worker alone")?;
        let node = remains::node_id(&layout.data_dir(other)).context("it has joined")?;
        labels.insert("io.goat.node".into(), node);
        let body =
            ContainerCreateBody { image: Some(echo::image().into()), labels: Some(labels), ..Default::default() };
        let docker = docker_of(layout, other)?;
        let made = docker.create_container(None::<query::CreateContainerOptions>, body).await?;
        docker.start_container(&made.id, None::<query::StartContainerOptions>).await?;
        self.tell(format!("control: a second container of {STOP} was started on {}", other.name()));
        Ok(())
    }

    async fn no_fence(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + FOUND_WITHIN;
        let (holder, claims) = loop {
            let (holder, _) = self.instance().await?;
            if let Some(claims) = self.claim(&Fault::KillMachine(holder.name())) {
                break (holder, claims);
            }
            anyhow::ensure!(Instant::now() < deadline, "every worker with an instance of {STOP} is busy");
            tokio::time::sleep(POLL).await;
        };
        let name = holder.name();
        let cause = self.causes.begin(Kind::Agent, &name);
        self.cluster.kill(&name, false).await?;
        let dir = self.cluster.layout().data_dir(holder);
        for (pid, args) in command_lines() {
            let is_its = args.iter().any(|arg| std::path::Path::new(arg).starts_with(&dir));
            if is_its && args.get(1).is_some_and(|verb| verb == "watchdog") {
                ProcessId::of(pid).into_iter().for_each(|watchdog| watchdog.signal(Signal::SIGKILL));
            }
        }
        self.tell(format!("control: the agent of {name} and its watchdog are killed, and its machine lives"));
        tokio::time::sleep(UNFENCED).await;
        self.cluster.start(&name).await?;
        self.causes.end(cause);
        self.release(&claims);
        Ok(())
    }
}
