//! Newcomers, certificates and join tokens: what members and goatctl ask of the authority. On any manager.

use std::str::FromStr;

use goat_core::codec::BOUNDED_FORMAT;
use goat_core::model::{ClusterId, Invited, NodeId, RequestId, Secret};
use goat_core::state::command::{Action, Answer, Command, Outcome, Refusal};
use goat_core::state::{Client, MAX_CLIENT_NAME_BYTES, Rotation, Security};
use goat_proto::convert;
use goat_proto::v1;
use goat_proto::v1::identity_server::Identity as IdentityService;
use goat_tls::token::{is_same_secret, new_secret};
use goat_tls::{Authority, Caller, JoinToken, Role, Subject, credentials};
use tonic::{Request, Response, Status, async_trait};
use tracing::info;

use crate::clock;
use crate::control::refused;
use crate::dispatcher::Desk;
use crate::raft::Group;
use crate::raft::seat::Seat;
use crate::security::guesses::Guesses;
use crate::security::issue::{self, Issued, sign};
use crate::security::rotation::waiting_for;

type Reply<T> = Result<Response<T>, Status>;

/// Clients in one answer.
const CLIENTS_AT_ONCE: usize = 1_000;

/// The service.
#[derive(Debug, Clone)]
pub struct Identity {
    seat: Seat,
    desk: Desk,
    guesses: Guesses,
}

impl Identity {
    pub fn new(seat: Seat, desk: Desk) -> Self {
        Self { seat, desk, guesses: Guesses::default() }
    }

    fn group(&self) -> Result<Group, Status> {
        let group = self.seat.group().filter(Group::has_members);
        group.ok_or_else(|| Status::unavailable("this manager has not heard from a leader yet"))
    }

    /// The group, and what certificates rest on; None where the cluster is unencrypted.
    async fn secured(&self) -> Result<(Group, Option<Security>), Status> {
        let group = self.group()?;
        group.linearize().await.map_err(|error| error.into_status(&group))?;
        let security = group.view().read().security().cloned();
        Ok((group, security))
    }

    /// As [`Identity::secured`], for a caller with this join secret. A secret that is wrong by this manager's own state is
    /// counted before a quorum is asked whether there is a newer one.
    async fn invited(
        &self,
        caller: Option<&Caller>,
        invited: Invited,
        secret: &str,
    ) -> Result<(Group, Option<Security>), Status> {
        let is_known = check_secret(self.group()?.view().read().security(), invited, secret).is_ok();
        if !is_known {
            self.guesses.count(caller, word(invited))?;
        }
        let (group, security) = self.secured().await?;
        check_secret(security.as_ref(), invited, secret)?;
        Ok((group, security))
    }
}

fn unencrypted() -> Status {
    Status::failed_precondition("this cluster runs with --plaintext: it has no certificates and no join tokens")
}

fn malformed(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Whether the secret invites one of that kind.
fn check_secret(security: Option<&Security>, invited: Invited, secret: &str) -> Result<(), Status> {
    let Some(security) = security else { return Ok(()) };
    if is_same_secret(security.secrets.of(invited).expose(), secret) {
        return Ok(());
    }
    let word = word(invited);
    Err(Status::permission_denied(format!(
        "the join token does not invite a {word}: it was replaced by a newer one, or is for another role; `goatctl cluster join-token \
         {word}` prints the present one"
    )))
}

/// Whether a worker whose certificate is outdated may have a new one: for as long as it is a node. That one was removed is
/// remembered only while its certificate could be valid.
fn check_node(group: &Group, subject: &Subject) -> Result<(), Status> {
    let node: NodeId = convert::parse("node_id", &subject.id)?;
    if group.view().read().node(node).is_some() {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "the certificate has expired, and there is no node {node} any more: let the machine join with an empty data directory"
    )))
}

fn check_not_removed(group: &Group, subject: &Subject) -> Result<(), Status> {
    let node: NodeId = convert::parse("node_id", &subject.id)?;
    if group.view().read().is_revoked(node) {
        return Err(Status::permission_denied(format!("node {node} was removed from the cluster")));
    }
    Ok(())
}

const fn word(invited: Invited) -> &'static str {
    match invited {
        Invited::Manager => "manager",
        Invited::Worker => "worker",
    }
}

/// Certificate and authorities; empty in an unencrypted cluster.
fn signed(
    security: Option<&Security>,
    cluster: ClusterId,
    request: &[u8],
    role: Role,
    id: &str,
) -> Result<Issued, Status> {
    match security {
        None => Ok(Issued { certificate: String::new(), authorities: String::new() }),
        Some(security) => sign(security, cluster, request, role, id).map_err(malformed),
    }
}

async fn propose(group: &Group, request_id: &str, action: Action) -> Result<Answer, Status> {
    propose_as(group, Some(convert::parse("request_id", request_id)?), action).await
}

/// A client's certificate is listed, if the cluster's format has the list; a revoked name is refused.
async fn list_client(group: &Group, name: &str) -> Result<(), Status> {
    if group.view().read().format() < BOUNDED_FORMAT {
        return Ok(());
    }
    let expires_at_ms = issue::expires_at_ms(Role::Client);
    propose_as(group, None, Action::IssueClient { name: name.to_owned(), expires_at_ms }).await.map(drop)
}

async fn propose_as(group: &Group, request: Option<RequestId>, action: Action) -> Result<Answer, Status> {
    let command = Command { now_ms: clock::now_ms(), request, action };
    let accepted = group.propose(&command).await.map_err(|error| error.into_status(group))?;
    match accepted.outcome {
        Outcome::Done(answer) => Ok(answer),
        Outcome::Refused(refusal) => Err(refused(&refusal)),
    }
}

#[async_trait]
impl IdentityService for Identity {
    async fn join_manager(&self, request: Request<v1::JoinManagerRequest>) -> Reply<v1::JoinManagerReply> {
        let caller = request.extensions().get::<Caller>().cloned();
        let request = request.into_inner();
        let (group, security) = self.invited(caller.as_ref(), Invited::Manager, &request.secret).await?;
        // Before the number is given: a request that cannot be signed leaves nothing behind.
        signed(security.as_ref(), group.cluster(), &request.certificate_request, Role::Manager, "0")?;
        let (name, address) = (request.name, request.address);
        let action = Action::AddManager { name: name.clone(), address: address.clone() };
        let Answer::Manager { id, .. } = propose(&group, &request.request_id, action).await? else {
            return Err(Status::internal("an answer to something else"));
        };
        info!(name, manager_id = id, address, "a manager joins");
        let cluster = group.cluster();
        let issued = signed(security.as_ref(), cluster, &request.certificate_request, Role::Manager, &id.to_string())?;
        Ok(Response::new(v1::JoinManagerReply {
            cluster_id: cluster.to_string(),
            id,
            certificate: issued.certificate,
            authorities: issued.authorities,
        }))
    }

    async fn join_worker(&self, request: Request<v1::JoinWorkerRequest>) -> Reply<v1::JoinWorkerReply> {
        let caller = request.extensions().get::<Caller>().cloned();
        let request = request.into_inner();
        let (group, security) = self.invited(caller.as_ref(), Invited::Worker, &request.secret).await?;
        let node: NodeId = convert::parse("node_id", &request.node_id)?;
        let known = group.view().read().node(node).map(|known| known.name.clone());
        if let Some(name) = known {
            return Err(Status::already_exists(format!(
                "there is a node {name} with this id already: if its machine has lost its credentials, `goatctl node rm {name}` \
                 first, and let it join with an empty data directory"
            )));
        }
        let cluster = group.cluster();
        let issued = signed(security.as_ref(), cluster, &request.certificate_request, Role::Worker, &node.to_string())?;
        info!(node_id = %node, "a worker joins");
        Ok(Response::new(v1::JoinWorkerReply {
            cluster_id: cluster.to_string(),
            certificate: issued.certificate,
            authorities: issued.authorities,
            managers: group.addresses(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Reply<v1::RenewReply> {
        let caller = request.extensions().get::<Caller>().cloned();
        let (group, security) = self.secured().await?;
        let subject = caller.as_ref().and_then(Caller::known);
        let (Some(subject), Some(security)) = (subject, security) else { return Err(unencrypted()) };
        let is_outdated = caller.as_ref().is_some_and(|caller| caller.outdated.is_some());
        if is_outdated {
            check_node(&group, subject)?;
        }
        // It may have been removed since the request was let in: a certificate that is signed after a rotation would outlive that.
        if subject.role == Role::Worker {
            check_not_removed(&group, subject)?;
        }
        let request = request.into_inner().certificate_request;
        let issued = sign(&security, group.cluster(), &request, subject.role, &subject.id).map_err(malformed)?;
        if subject.role == Role::Client {
            list_client(&group, &subject.id).await?;
        }
        info!(role = %subject.role, id = subject.id, is_outdated, "renewed a certificate");
        Ok(Response::new(v1::RenewReply { certificate: issued.certificate, authorities: issued.authorities }))
    }

    async fn issue_client(&self, request: Request<v1::IssueClientRequest>) -> Reply<v1::RenewReply> {
        let v1::IssueClientRequest { name, certificate_request } = request.into_inner();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if name.is_empty() || name.len() > MAX_CLIENT_NAME_BYTES || !name.bytes().all(is_name) {
            return Err(Status::invalid_argument("name: 1 to 64 of a-z, A-Z, 0-9, - _ . and @ are expected"));
        }
        let (group, security) = self.secured().await?;
        let security = security.ok_or_else(unencrypted)?;
        let issued = sign(&security, group.cluster(), &certificate_request, Role::Client, &name).map_err(malformed)?;
        list_client(&group, &name).await?;
        info!(name, "issued a client's certificate");
        Ok(Response::new(v1::RenewReply { certificate: issued.certificate, authorities: issued.authorities }))
    }

    async fn list_clients(&self, request: Request<v1::ListClientsRequest>) -> Reply<v1::ListClientsReply> {
        let after = request.into_inner().after;
        let (group, security) = self.secured().await?;
        security.ok_or_else(unencrypted)?;
        let state = group.view().read();
        let mut rest = state.clients().filter(|client| client.name > after);
        let clients = rest.by_ref().take(CLIENTS_AT_ONCE).map(shown).collect();
        Ok(Response::new(v1::ListClientsReply { clients, more: rest.next().is_some() }))
    }

    async fn revoke_client(&self, request: Request<v1::RevokeClientRequest>) -> Reply<v1::RevokeClientReply> {
        let v1::RevokeClientRequest { request_id, name } = request.into_inner();
        let (group, security) = self.secured().await?;
        security.ok_or_else(unencrypted)?;
        propose(&group, &request_id, Action::RevokeClient { name: name.clone() }).await?;
        info!(name, "revoked a client's certificates");
        Ok(Response::new(v1::RevokeClientReply {}))
    }

    async fn get_join_token(&self, request: Request<v1::GetJoinTokenRequest>) -> Reply<v1::GetJoinTokenReply> {
        let v1::GetJoinTokenRequest { request_id, role, rotate } = request.into_inner();
        let role = Role::from_str(&role).map_err(malformed)?;
        let invited = match role {
            Role::Manager => Invited::Manager,
            Role::Worker => Invited::Worker,
            Role::Client => return Err(Status::invalid_argument("role: clients do not join")),
        };
        let (group, security) = self.secured().await?;
        let mut security = security.ok_or_else(unencrypted)?;
        if rotate {
            let secret = Secret::new(new_secret().map_err(|error| Status::internal(error.to_string()))?);
            propose(&group, &request_id, Action::RotateJoinSecret { invited, secret }).await?;
            info!(role = word(invited), "replaced a join token");
            // The state's, in case that this was a retry.
            security = self.secured().await?.1.ok_or_else(unencrypted)?;
        }
        let authority = digest(&security.signer().certificate)?;
        let token = JoinToken::new(role, authority, security.secrets.of(invited).expose().to_owned());
        Ok(Response::new(v1::GetJoinTokenReply { token: token.expose() }))
    }

    async fn get_authority(&self, request: Request<v1::GetAuthorityRequest>) -> Reply<v1::GetAuthorityReply> {
        let (group, security) = self.secured().await?;
        let security = security.ok_or_else(unencrypted)?;
        if security.rotation() != Rotation::None
            && let Some(leader) = group.leader().filter(|leader| !leader.is_here)
        {
            // Workers say to the leader alone how far they are.
            let identity = group.peers().identity(&leader.address);
            let mut identity = identity.map_err(|error| Status::unavailable(error.to_string()))?;
            return identity.get_authority(request.into_inner()).await;
        }
        self.describe(&group, &security).await.map(Response::new)
    }

    async fn rotate_authority(&self, request: Request<v1::RotateAuthorityRequest>) -> Reply<v1::GetAuthorityReply> {
        let (group, security) = self.secured().await?;
        security.ok_or_else(unencrypted)?;
        let made = Authority::new(&group.cluster().to_string(), std::time::SystemTime::now())
            .map_err(|error| Status::internal(error.to_string()))?;
        let authority =
            goat_core::model::Authority { certificate: made.certificate().to_owned(), key: Secret::new(made.key()) };
        propose(&group, &request.into_inner().request_id, Action::AnnounceAuthority { authority }).await?;
        info!("a rotation of the certificate authority has begun");
        let security = self.secured().await?.1.ok_or_else(unencrypted)?;
        self.describe(&group, &security).await.map(Response::new)
    }
}

fn shown(client: &Client) -> v1::Client {
    v1::Client {
        name: client.name.clone(),
        issued_at_ms: client.issued_at_ms.unwrap_or(0),
        expires_at_ms: client.expires_at_ms.unwrap_or(0),
        revoked_at_ms: client.revoked_at_ms.unwrap_or(0),
    }
}

fn digest(certificate: &str) -> Result<String, Status> {
    let digests = credentials::digests(certificate).map_err(|error| Status::internal(error.to_string()))?;
    digests.into_iter().next().ok_or_else(|| Status::internal("the authority has no certificate"))
}

impl Identity {
    async fn describe(&self, group: &Group, security: &Security) -> Result<v1::GetAuthorityReply, Status> {
        let rotation = security.rotation();
        let waiting_for = match rotation {
            Rotation::None => Vec::new(),
            Rotation::Announced | Rotation::Signing => waiting_for(group, &self.desk, security).await,
        };
        let believed =
            security.authorities.iter().map(|authority| digest(&authority.certificate)).collect::<Result<_, _>>()?;
        Ok(v1::GetAuthorityReply {
            believed,
            signer: digest(&security.signer().certificate)?,
            rotation: match rotation {
                Rotation::None => "none",
                Rotation::Announced => "announced",
                Rotation::Signing => "signing",
            }
            .to_owned(),
            waiting_for,
            version: security.version,
        })
    }
}

/// Why a first manager's entries may be there already: `init` was cut off and is repeated.
pub(crate) const fn is_repeated(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::ClusterExists { .. } | Refusal::Impossible { .. })
}
