//! `goat-manager join`: asks a cluster for a number and a certificate, and marks the data directory with them. The manager
//! takes part as soon as it runs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use goat_core::model::{ClusterId, RequestId};
use goat_proto::convert;
use goat_proto::v1::identity_client::IdentityClient;
use goat_proto::v1::{JoinManagerReply, JoinManagerRequest};
use goat_tls::credentials::Request;
use goat_tls::{Connector, JoinToken, Network, Role, Transport};
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::clock;
use crate::raft::Seated;
use crate::security;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const JOIN_WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What a new manager brings along.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory for the log and the state: empty, or not there yet
    #[arg(long, env = "GOAT_MANAGER_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// This manager's name [default: this machine's]
    #[arg(long, env = "GOAT_MANAGER_NAME")]
    pub name: Option<String>,
    /// Address at which managers, workers and clients will reach it [default: --listen]
    #[arg(long, env = "GOAT_MANAGER_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Address that it will listen on, where --advertise does not say more [default: 127.0.0.1:7700]
    #[arg(long, env = "GOAT_MANAGER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// A cluster without encryption and certificates, on this machine's loopback only
    #[arg(long, env = "GOAT_MANAGER_PLAINTEXT")]
    pub plaintext: bool,
}

/// A manager that is no member yet.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub data_dir: PathBuf,
    pub name: String,
    pub address: String,
    pub is_plaintext: bool,
}

impl Place {
    /// Fills in what is not given.
    pub fn into_newcomer(self) -> anyhow::Result<Newcomer> {
        let name = match self.name {
            Some(name) => name,
            None => {
                let host = nix::unistd::gethostname().context("this machine has no name; give --name")?;
                host.to_string_lossy().split('.').next().unwrap_or_default().to_lowercase()
            }
        };
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7700)));
        anyhow::ensure!(
            self.advertise.is_some() || !listen.ip().is_unspecified(),
            "{listen} is every address of this machine: give --advertise, the one at which the others reach it"
        );
        Ok(Newcomer {
            data_dir: self.data_dir,
            name,
            address: self.advertise.unwrap_or_else(|| listen.to_string()),
            is_plaintext: self.plaintext,
        })
    }
}

/// Joins the cluster that one of `managers` belongs to. Nothing is left in the directory when that fails. `token`: None in
/// plaintext.
pub async fn join(
    newcomer: &Newcomer,
    managers: &[String],
    token: Option<&JoinToken>,
    bind_source: Option<IpAddr>,
) -> anyhow::Result<(ClusterId, u64)> {
    join_over(newcomer, managers, token, bind_source, Network::TCP).await
}

/// The same over another network, which counts in plaintext alone.
pub async fn join_over(
    newcomer: &Newcomer,
    managers: &[String],
    token: Option<&JoinToken>,
    bind_source: Option<IpAddr>,
    network: Network,
) -> anyhow::Result<(ClusterId, u64)> {
    goat_raft_store::check_empty(&newcomer.data_dir)?;
    let connector = match token {
        Some(token) if token.role != Role::Manager => {
            anyhow::bail!("this join token is for a {}; get one with `goatctl cluster join-token manager`", token.role)
        }
        Some(token) => Connector::newcomer(token, bind_source, CONNECT_WITHIN)?,
        None => Connector::new(Transport::plaintext().over(network), Role::Manager, bind_source, CONNECT_WITHIN),
    };
    let own = token.map(|_| Request::new()).transpose()?;
    let request = JoinManagerRequest {
        request_id: RequestId::from_random(clock::random()).to_string(),
        name: newcomer.name.clone(),
        address: newcomer.address.clone(),
        secret: token.map(|token| token.secret().to_owned()).unwrap_or_default(),
        certificate_request: own.as_ref().map(|own| own.as_bytes().to_vec()).unwrap_or_default().into(),
    };
    let reply = ask(&connector, managers, &request).await?;
    let cluster = convert::parse("cluster_id", &reply.cluster_id).map_err(|status| anyhow::anyhow!("{status}"))?;
    let credentials = own.map(|own| own.answered(&reply.certificate, &reply.authorities)).transpose()?;
    Seated { id: reply.id, cluster }.claim(&newcomer.data_dir)?;
    if let Some(credentials) = credentials {
        credentials.store(&security::path(&newcomer.data_dir))?;
    }
    Ok((cluster, reply.id))
}

/// One after the other, with one request id, until one decides.
async fn ask(
    connector: &Connector,
    managers: &[String],
    request: &JoinManagerRequest,
) -> anyhow::Result<JoinManagerReply> {
    let deadline = Instant::now() + JOIN_WITHIN;
    loop {
        let mut reasons = Vec::new();
        for address in managers {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address:?} is not an address: HOST:PORT is expected"))?;
            let mut client = IdentityClient::new(connector.channel(&endpoint));
            let call = tokio::time::timeout(ANSWER_WITHIN, client.join_manager(request.clone()));
            match call.await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if is_final(&status) => anyhow::bail!("{}", status.message()),
                Ok(Err(status)) => reasons.push(goat_tls::connect::cause(address, &status)),
                Err(_) => reasons.push(format!("{address}: no answer within {} s", ANSWER_WITHIN.as_secs())),
            }
        }
        let is_hopeless = reasons.iter().all(|reason| reason.contains(goat_tls::connect::OTHER_AUTHORITY));
        anyhow::ensure!(
            Instant::now() < deadline && !is_hopeless,
            "no manager lets this one join: {}",
            reasons.join("; ")
        );
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn is_final(status: &Status) -> bool {
    // What has a source was made on this side: no connection, or a broken one.
    let is_broken = std::error::Error::source(status).is_some();
    !is_broken && !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted)
}
