//! The life of a manager: open, form or rejoin the group, serve, hand over, stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use goat_observe::Ring;
use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::v1::control_server::ControlServer;
use goat_proto::v1::identity_server::IdentityServer;
use goat_proto::v1::presence_server::PresenceServer;
use goat_proto::v1::raft_server::RaftServer;
use goat_raft_store::Base;
use goat_system::notify as systemd;
use goat_system::stall::Watchdog;
use goat_tls::{Listener, Network, Transport};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower_layer::Stack;
use tracing::{info, warn};

use crate::backup;
use crate::config::Config;
use crate::connections;
use crate::control::{Control, MAX_REQUEST_BYTES};
use crate::debug::Debug;
use crate::dispatcher::{Desk, Dispatcher, DispatcherServers};
use crate::duty::Duty;
use crate::events::{self, Events};
use crate::http;
use crate::identity::Identity;
use crate::inject;
use crate::leader;
use crate::machine::View;
use crate::metrics::{self, rpc::Rpcs};
use crate::notify;
use crate::presence::Presence;
use crate::raft::peers::Peers;
use crate::raft::seat::Seat;
use crate::raft::service::Service;
use crate::raft::{Error, Group, Seated, welcome};
use crate::security::{self, gate::GateLayer};
use crate::taskset::TaskSet;

/// The message, the vote and the first commit of the new leader: three round trips of up to 300 ms and fsyncs of up to 200 ms.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(4);
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Of a request to join, with a certificate request.
pub const JOIN_BYTES: usize = 32 << 10;
/// Of a ping, which is two short texts.
pub const PING_BYTES: usize = 4 << 10;

/// What the service and the leader's loops share.
#[derive(Debug, Clone)]
struct Parts {
    desk: Desk,
    events: Events,
    rpcs: Rpcs,
    debug: Debug,
}

/// What a manager stands on: the machine's TCP and RocksDB, where nothing else is said.
#[derive(Debug, Default)]
pub struct Ground {
    pub network: Network,
    /// The database; the data directory holds the rest.
    pub base: Option<Base>,
    /// Ends the process if the manager stands still.
    pub watchdog: Option<Watchdog>,
}

impl Ground {
    /// Another network and another database, without a watchdog: simulated ones.
    pub fn simulated(network: Network, base: Base) -> Self {
        Self { network, base: Some(base), watchdog: None }
    }
}

/// Runs a manager until `stop` is cancelled, or something makes it impossible to go on. `log`: where its log lines are kept.
pub async fn run_on(config: Config, log: Ring, ground: Ground, stop: CancellationToken) -> anyhow::Result<()> {
    let dir = config.data_dir.display().to_string();
    let seated = Seated::of(&config.data_dir)?.ok_or(Error::Empty(dir))?;
    let transport = security::transport(&config.data_dir, config.plaintext)?.over(ground.network);
    let listener = transport.network().listen(config.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is another manager running there? Change `listen`, or stop the other",
            config.listen
        )
    })?;
    let (seat, tasks) = (Seat::default(), TaskSet::new("manager"));
    let server_stop = CancellationToken::new();
    let (desk, rpcs) = (Desk::default(), Rpcs::default());
    let registry = Arc::new(metrics::registry(seat.clone(), desk.clone(), rpcs.clone()));
    let debug = Debug::new(config.clone(), registry.clone(), log);
    let parts = Parts { desk, events: Events::default(), rpcs, debug };
    if let Some(at) = config.http_listen {
        http::open(at, seat.clone(), registry, &tasks).await?;
    }
    let mut server = tokio::spawn(serve(listener, transport.clone(), seat.clone(), parts.clone(), server_stop.clone()));
    info!(manager_id = seated.id, cluster_id = %seated.cluster, listen = %config.listen, "listening");

    let start = Start { seated, transport, base: ground.base, watchdog: ground.watchdog };
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        outcome = live(&config, start, &seat, &parts, &tasks) => outcome,
        failure = tasks.failed() => Err(anyhow::anyhow!("{failure}: this manager ends itself, and another one leads; start it again")),
        ended = &mut server => Err(anyhow::anyhow!("the server has ended: {ended:?}; start this manager again")),
    };
    systemd::stopping("stops; a leader hands over first");
    if let Some(group) = seat.group() {
        stop_group(&group, &parts.desk, &tasks).await;
    }
    server_stop.cancel();
    // If the server has ended before, that is the outcome.
    if !server.is_finished() {
        stop_server(server).await;
    }
    outcome
}

async fn stop_server(server: JoinHandle<Result<(), tonic::transport::Error>>) {
    match tokio::time::timeout(STOP_GRACE, server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(%error, "the server ended with an error"),
        Ok(Err(error)) => warn!(%error, "the server broke"),
        Err(_) => info!("clients did not close their connections in time; closing them"),
    }
}

/// What a manager takes its seat with.
struct Start {
    seated: Seated,
    transport: Transport,
    base: Option<Base>,
    watchdog: Option<Watchdog>,
}

/// Takes its seat in the group and keeps it until Raft stops, which is an error.
async fn live(config: &Config, start: Start, seat: &Seat, parts: &Parts, tasks: &TaskSet) -> anyhow::Result<()> {
    systemd::status("opens its data directory");
    let view = View::new();
    tasks.spawn_duty(Duty::Events, events::run(parts.events.clone(), view.clone(), view.changes()));
    let Start { seated, transport, base, watchdog } = start;
    let peers = Peers::new(transport.clone(), config.bind_source);
    let group = Group::start(config, seated, peers, view, base, tasks).await?;
    seat.take(group.clone());
    let probe =
        || watchdog.map(|watchdog| watchdog.probe("a lock of the state or of Raft's metrics", group.lock_probe()));
    let _probe = probe().transpose()?;
    inject::stall(group.view());
    if systemd::is_wanted() {
        tasks.spawn_duty(Duty::Notify, notify::run(group.clone()));
    }
    let credentials = security::path(&config.data_dir);
    tasks.spawn_duty(Duty::Certificate, security::keeper::run(group.clone(), transport, credentials));
    let dir = config.data_dir.display().to_string();
    tokio::select! {
        outcome = serve_in_group(config, parts, tasks, &group) => outcome,
        error = welcome::removed(&group, &dir) => Err(error.into()),
    }
}

async fn serve_in_group(config: &Config, parts: &Parts, tasks: &TaskSet, group: &Group) -> anyhow::Result<()> {
    group.wait_for_members().await?;
    if let Some(schedule) = config.backup.clone() {
        tasks.spawn_duty(Duty::Backups, backup::schedule::run(group.clone(), schedule));
    }
    tasks.spawn_duty(Duty::LeaderEvents, events::run_leaders(parts.events.clone(), group.clone()));
    let leading = leader::run(group.clone(), parts.desk.clone(), config.lease_policy(), tasks.clone());
    tasks.spawn_duty(Duty::Leadership, leading);
    let reason = group.stopped().await;
    anyhow::bail!(
        "Raft has stopped: {reason}. What was acknowledged is safe; look at the disk and start this manager again"
    )
}

async fn stop_group(group: &Group, desk: &Desk, tasks: &TaskSet) {
    if group.leader().is_some_and(|leader| leader.is_here)
        && let Some(successor) = group.best_successor()
    {
        match group.hand_over(successor, HAND_OVER_TIMEOUT).await {
            Ok(leader) => info!(leader = leader.name, "handed over"),
            Err(error) => warn!(%error, "could not hand over; the others will elect a leader"),
        }
    }
    desk.close(STOP_GRACE).await;
    tasks.stop(STOP_GRACE).await;
    group.shutdown().await;
}

async fn serve(
    listener: Listener,
    transport: Transport,
    seat: Seat,
    parts: Parts,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let raft = RaftServer::new(Service { seat: seat.clone() })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let dispatcher = DispatcherServers::new(Dispatcher::new(seat.clone(), parts.desk.clone(), stop.clone()));
    let presence = PresenceServer::new(Presence::new(seat.clone())).max_decoding_message_size(PING_BYTES);
    let identity =
        IdentityServer::new(Identity::new(seat.clone(), parts.desk.clone())).max_decoding_message_size(JOIN_BYTES);
    let control = ControlServer::new(Control::new(seat.clone(), parts.desk, parts.events, parts.debug, stop.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes =
        Routes::new(raft).add_service(dispatcher).add_service(presence).add_service(identity).add_service(control);
    let layer = Stack::new(GateLayer::new(seat), parts.rpcs);
    connections::serve(listener, transport, routes, layer, stop).await
}
