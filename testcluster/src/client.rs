//! Calls to whichever manager answers, and to one in particular.
//!
//! Mutations carry a request id, so every call may be repeated until the outcome is known.

mod lists;
mod people;
mod tokens;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::v1;
use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::identity_client::IdentityClient;
use goat_tls::{Connector, Credentials, Role, Transport};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::error::Error;

const CONNECT: Duration = Duration::from_millis(500);
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MOST: Duration = Duration::from_millis(200);
/// A connection to a manager that is frozen or cut off is given up after the sum of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

pub type Control = ControlClient<Channel>;

/// A fresh request id: twelve digits of core's alphabet.
pub fn request_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bits: u64 = rand::random();
    (0..12).map(|at| char::from(DIGITS[(bits >> (5 * at) & 31) as usize])).collect()
}

/// All managers. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    controls: Arc<Vec<(String, Control)>>,
    identities: Arc<Vec<IdentityClient<Channel>>>,
    preferred: Arc<AtomicUsize>,
    /// Of one attempt at one manager.
    attempt: Duration,
    /// Of a call with all its attempts.
    within: Duration,
}

/// Whether another attempt may end differently.
pub fn is_passing(status: &Status) -> bool {
    use std::error::Error as _;
    // What has a source was made on this side: the connection broke.
    status.source().is_some() || matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)
}

/// To managers, with a user's credentials.
pub fn connector(credentials: &Path) -> Result<Connector, Error> {
    let made = Credentials::load(credentials).and_then(|found| found.map(Transport::new).transpose());
    let transport = made.map_err(|error| Error::failed(error.to_string()))?;
    let transport = transport.ok_or_else(|| Error::failed(format!("{} is missing", credentials.display())))?;
    Ok(Connector::new(transport, Role::Manager, None, CONNECT))
}

impl Client {
    /// Connects when first used. `addresses`: HOST:PORT. `credentials`: a user's, as `goat-manager init` wrote them.
    pub fn new(addresses: &[String], credentials: &Path) -> Result<Self, Error> {
        let connector = connector(credentials)?;
        let controls = addresses.iter().map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|error| Error::usage(format!("{address:?} is not a manager's address: {error}")))?
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            let channel = connector.channel(&endpoint);
            let control = ControlClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            Ok(((address.clone(), control), IdentityClient::new(channel)))
        });
        let clients = controls.collect::<Result<Vec<_>, Error>>()?;
        let (controls, identities): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
        if controls.is_empty() {
            return Err(Error::usage("there is no manager to talk to"));
        }
        Ok(Self {
            controls: Arc::new(controls),
            identities: Arc::new(identities),
            preferred: Arc::default(),
            attempt: Duration::from_secs(2),
            within: Duration::from_secs(15),
        })
    }

    /// The same connections with other limits: of one attempt, and of a call with all its attempts.
    #[must_use]
    pub fn with_limits(&self, attempt: Duration, within: Duration) -> Self {
        Self { attempt, within, preferred: Arc::default(), ..self.clone() }
    }

    pub fn managers(&self) -> usize {
        self.controls.len()
    }

    /// One attempt at one manager, counted from 0.
    pub async fn once<R, T, F, Fut>(&self, at: usize, request: R, call: F) -> Result<T, Status>
    where
        F: Fn(Control, Request<R>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let (_, control) = &self.controls[at % self.controls.len()];
        let mut request = Request::new(request);
        request.set_timeout(self.attempt);
        match tokio::time::timeout(self.attempt, call(control.clone(), request)).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} ms", self.attempt.as_millis()))),
        }
    }

    /// Attempts at one manager after the other until one answers.
    pub async fn call<R, T, F, Fut>(&self, what: &'static str, request: R, call: F) -> Result<T, Error>
    where
        R: Clone,
        F: Fn(Control, Request<R>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.within;
        let (mut backoff, mut failures) = (BACKOFF, 0);
        loop {
            let at = self.preferred.load(Ordering::Relaxed);
            match self.once(at, request.clone(), &call).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_passing(&status) => {
                    if Instant::now() >= deadline {
                        let text = format!(
                            "no manager answered within {} s; the last said: {}",
                            self.within.as_secs(),
                            status.message()
                        );
                        return Err(Error::Refused { what, status: Box::new(Status::new(status.code(), text)) });
                    }
                }
                Err(status) => {
                    return Err(Error::Refused { what, status: Box::new(status) });
                }
            }
            let _ = self.preferred.compare_exchange(
                at,
                (at + 1) % self.controls.len(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            failures += 1;
            if failures % self.controls.len() == 0 {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MOST);
            }
        }
    }

    /// What one manager thinks, without asking the others to agree.
    pub async fn status_of(&self, at: usize) -> Result<v1::Status, Status> {
        let request = v1::GetStatusRequest { read: Some(v1::ReadOptions { stale: true }) };
        self.once(at, request, |mut control, request| async move { control.get_status(request).await }).await
    }

    pub async fn status(&self) -> Result<v1::Status, Error> {
        let request = v1::GetStatusRequest::default();
        self.call("status", request, |mut control, request| async move { control.get_status(request).await }).await
    }

    /// All current tasks; with `all`, those that have ended too.
    pub async fn tasks(&self, all: bool) -> Result<Vec<v1::Task>, Error> {
        self.list_tasks(v1::ListTasksRequest { all, ..Default::default() }).await
    }

    pub async fn nodes(&self) -> Result<Vec<v1::Node>, Error> {
        self.list_nodes(v1::ListNodesRequest::default()).await
    }

    /// Services that are not being removed.
    pub async fn services(&self) -> Result<Vec<v1::Service>, Error> {
        let services = self.list_services(v1::ListServicesRequest::default()).await?;
        Ok(services.into_iter().filter(|service| !service.removed).collect())
    }

    pub async fn peers(&self) -> Result<Vec<v1::Peer>, Error> {
        let reply = self.call("list peers", v1::ListPeersRequest {}, |mut control, request| async move {
            control.list_peers(request).await
        });
        Ok(reply.await?.peers)
    }

    pub async fn create_service(&self, spec: v1::ServiceSpec) -> Result<v1::ServiceReply, Error> {
        let request = v1::CreateServiceRequest { request_id: request_id(), spec: Some(spec) };
        self.call(
            "create the service",
            request,
            |mut control, request| async move { control.create_service(request).await },
        )
        .await
    }

    pub async fn remove_service(&self, reference: &str) -> Result<v1::ServiceReply, Error> {
        let request = v1::RemoveServiceRequest { request_id: request_id(), reference: reference.to_owned() };
        self.call(
            "remove the service",
            request,
            |mut control, request| async move { control.remove_service(request).await },
        )
        .await
    }

    pub async fn scale_service(&self, reference: &str, replicas: u32) -> Result<v1::ServiceReply, Error> {
        let request = v1::ScaleServiceRequest { request_id: request_id(), reference: reference.to_owned(), replicas };
        let call = self.call("scale the service", request, |mut control, request| async move {
            control.scale_service(request).await
        });
        call.await
    }

    /// A task with its history, and while it is pending with what it lacks.
    pub async fn task(&self, reference: &str) -> Result<v1::TaskDetail, Error> {
        let request = v1::GetTaskRequest { reference: reference.to_owned(), ..Default::default() };
        self.call("look at the task", request, |mut control, request| async move { control.get_task(request).await })
            .await
    }

    /// The first piece of a task's output, by way of its worker's agent; None where there is none.
    pub async fn first_log(&self, request: v1::TaskLogsRequest) -> Result<Option<v1::LogChunk>, Error> {
        let call = self.call("read a task's output", request, |mut control, request| async move {
            let mut chunks = control.task_logs(request).await?.into_inner();
            chunks.message().await.map(Response::new)
        });
        call.await
    }

    /// For that long tasks outlive the managers, whatever they chose.
    pub async fn freeze(&self, length: Duration) -> Result<v1::FreezeReply, Error> {
        let request = v1::FreezeRequest { request_id: request_id(), for_ms: length.as_millis() as u64, stop: false };
        self.call("freeze the cluster", request, |mut control, request| async move { control.freeze(request).await })
            .await
    }

    /// Lets the managers use the newest format that all of them read.
    pub async fn upgrade_cluster(&self) -> Result<v1::UpgradeClusterReply, Error> {
        let request = v1::UpgradeClusterRequest { request_id: request_id() };
        self.call("upgrade the cluster", request, |mut control, request| async move {
            control.upgrade_cluster(request).await
        })
        .await
    }

    /// Empty `to`: the manager most up to date.
    /// `standing`: voter, learner or removed.
    pub async fn set_manager(&self, name: &str, standing: &str) -> Result<v1::SetManagerReply, Error> {
        let request = v1::SetManagerRequest {
            request_id: request_id(),
            reference: name.to_owned(),
            standing: standing.to_owned(),
            force: false,
        };
        self.call("set manager", request, |mut control, request| async move { control.set_manager(request).await })
            .await
    }

    pub async fn transfer_leader(&self, to: &str) -> Result<v1::TransferLeaderReply, Error> {
        let request = v1::TransferLeaderRequest { to: to.to_owned() };
        let patient = self.with_limits(Duration::from_secs(5), self.within);
        let call = patient.call("transfer leadership", request, |mut control, request| async move {
            control.transfer_leader(request).await
        });
        call.await
    }
}
