//! This worker's certificate: how it is got, and how it is kept new.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use goat_core::model::ClusterId;
use goat_proto::convert;
use goat_proto::v1::identity_client::IdentityClient;
use goat_proto::v1::{JoinWorkerReply, JoinWorkerRequest, RenewRequest};
use goat_tls::credentials::Request;
use goat_tls::{Connector, Credentials, JoinToken, Role, Transport};
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::identity::{self, Identity};

/// In the data directory: this worker's key, its certificate and the authorities that it believes.
const FILE: &str = "identity.pem";
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const JOIN_WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A certificate lasts for months, but a clock that was months off may be set right at any time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] goat_tls::Error),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(
        "{0} is missing, with which this worker shows who it is: let it join with `goat-worker join`; or, where the cluster was \
         made with --plaintext, say so here as well"
    )]
    Missing(PathBuf),
    #[error("{0} is there, so the cluster is encrypted: leave out --plaintext")]
    NotPlaintext(PathBuf),
    #[error(
        "the data directory {dir} belongs to node {id} already: start it with `goat-worker run`, or give an empty directory"
    )]
    Joined { dir: PathBuf, id: String },
    #[error("this join token is for a {0}; get one with `goatctl cluster join-token worker`")]
    OtherRole(Role),
    #[error("{0:?} is not an address: HOST:PORT is expected")]
    Address(String),
    #[error("{0}")]
    Refused(String),
}

/// How the worker in that directory talks to others.
pub fn transport(data_dir: &Path, is_plaintext: bool) -> Result<Transport, Error> {
    let path = data_dir.join(FILE);
    match (Credentials::load(&path)?, is_plaintext) {
        (Some(_), true) => Err(Error::NotPlaintext(path)),
        (Some(credentials), false) => Ok(Transport::new(credentials)?),
        (None, true) => Ok(Transport::plaintext()),
        (None, false) => Err(Error::Missing(path)),
    }
}

/// Joins the cluster that one of `managers` belongs to. What is in the directory when that fails is of use to the next try.
pub async fn join(
    data_dir: &Path,
    managers: &[String],
    token: &JoinToken,
    bind_source: Option<IpAddr>,
) -> Result<(ClusterId, String), Error> {
    let identity = Identity::open(data_dir)?;
    let (id, path) = (identity.node_id().to_string(), data_dir.join(FILE));
    if Credentials::load(&path)?.is_some() {
        return Err(Error::Joined { dir: data_dir.to_owned(), id });
    }
    if token.role != Role::Worker {
        return Err(Error::OtherRole(token.role));
    }
    let connector = Connector::newcomer(token, bind_source, CONNECT_WITHIN)?;
    let own = Request::new()?;
    let request = JoinWorkerRequest {
        secret: token.secret().to_owned(),
        node_id: id.clone(),
        certificate_request: own.as_bytes().to_vec().into(),
    };
    let reply = ask(&connector, managers, &request).await?;
    let cluster =
        convert::parse("cluster_id", &reply.cluster_id).map_err(|status| Error::Refused(status.to_string()))?;
    let credentials = own.answered(&reply.certificate, &reply.authorities)?;
    identity.join(cluster)?;
    identity.learn_managers(reply.managers)?;
    // Last: with it the directory counts as joined.
    credentials.store(&path)?;
    Ok((cluster, id))
}

/// One after the other, until one decides.
async fn ask(
    connector: &Connector,
    managers: &[String],
    request: &JoinWorkerRequest,
) -> Result<JoinWorkerReply, Error> {
    let deadline = tokio::time::Instant::now() + JOIN_WITHIN;
    loop {
        let mut reasons = Vec::new();
        for address in managers {
            let mut client = IdentityClient::new(connector.channel(&endpoint(address)?));
            match tokio::time::timeout(ANSWER_WITHIN, client.join_worker(request.clone())).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if is_final(&status) => return Err(Error::Refused(status.message().to_owned())),
                Ok(Err(status)) => reasons.push(goat_tls::connect::cause(address, &status)),
                Err(_) => reasons.push(format!("{address}: no answer within {} s", ANSWER_WITHIN.as_secs())),
            }
        }
        let is_hopeless = reasons.iter().all(|reason| reason.contains(goat_tls::connect::OTHER_AUTHORITY));
        if is_hopeless || tokio::time::Instant::now() >= deadline {
            return Err(Error::Refused(format!("no manager lets this worker join: {}", reasons.join("; "))));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    Endpoint::from_shared(format!("http://{address}")).map_err(|_| Error::Address(address.to_owned()))
}

fn is_final(status: &Status) -> bool {
    // What has a source was made on this side: no connection, or a broken one.
    let is_broken = std::error::Error::source(status).is_some();
    !is_broken && !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted)
}

/// Keeps the certificate new: before it ends, and when the managers' authority is being rotated.
#[derive(Debug)]
pub struct Keeper {
    pub identity: Arc<Identity>,
    /// From the configuration; those that were learnt come first.
    pub managers: Vec<String>,
    pub transport: Transport,
    pub bind_source: Option<IpAddr>,
    /// What the leader said that the certificate should rest on; empty at first.
    pub wanted: watch::Receiver<String>,
}

impl Keeper {
    /// Never ends.
    pub async fn run(mut self) {
        loop {
            let wait = match self.renew_where_due().await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    warn!(%error, "this worker's certificate could not be renewed, trying again");
                    RETRY_AFTER
                }
            };
            let changed = tokio::time::timeout(wait, self.wanted.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                // No session will ever say anything; the clock still counts.
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn renew_where_due(&mut self) -> Result<(), Error> {
        let Some(own) = self.transport.credentials() else { return Ok(()) };
        let wanted = self.wanted.borrow_and_update().clone();
        if (wanted.is_empty() || own.stance() == wanted) && !own.is_due(SystemTime::now()) {
            return Ok(());
        }
        let request = Request::new()?;
        let (certificate, authorities) = self.renew(request.as_bytes()).await?;
        let credentials = request.answered(&certificate, &authorities)?;
        credentials.store(&self.identity.root().join(FILE))?;
        let (_, until) = credentials.valid();
        self.transport.replace(credentials)?;
        info!(valid_until_unix_s = until, "renewed this worker's certificate");
        Ok(())
    }

    async fn renew(&self, request: &[u8]) -> Result<(String, String), Error> {
        let connector = Connector::new(self.transport.clone(), Role::Manager, self.bind_source, CONNECT_WITHIN);
        let mut reasons = Vec::new();
        for address in self.identity.managers().iter().chain(&self.managers) {
            let mut client = IdentityClient::new(connector.channel(&endpoint(address)?));
            let request = RenewRequest { certificate_request: request.to_vec().into() };
            match tokio::time::timeout(ANSWER_WITHIN, client.renew(request)).await {
                Ok(Ok(reply)) => {
                    let reply = reply.into_inner();
                    return Ok((reply.certificate, reply.authorities));
                }
                Ok(Err(status)) => reasons.push(goat_tls::connect::cause(address, &status)),
                Err(_) => reasons.push(format!("{address}: no answer within {} s", ANSWER_WITHIN.as_secs())),
            }
        }
        Err(Error::Refused(reasons.join("; ")))
    }
}
