//! Which role may call what. What is not in the table may be called by nobody.

use std::task::{Context, Poll};

use goat_core::model::NodeId;
use goat_core::state::command::Refusal;
use goat_tls::{Caller, Role, Subject};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::raft::Group;
use crate::raft::seat::Seat;

const MANAGER: &[Role] = &[Role::Manager];
const WORKER: &[Role] = &[Role::Worker, Role::Manager];
const CLIENT: &[Role] = &[Role::Client, Role::Manager];
const MEMBER: &[Role] = &[Role::Manager, Role::Worker];

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who shows a certificate for one of these roles.
    Roles(&'static [Role]),
    /// Who shows any certificate, and be it outdated.
    Known,
    /// Anybody: the call itself asks for a token.
    Newcomers,
}

/// Managers may call what workers and clients may where they pass their calls on to the leader.
pub const RULES: &[(&str, Who)] = &[
    ("/goat.v1.Raft/Append", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/Vote", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/PreVote", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/InstallSnapshot", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/TransferLeader", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/Propose", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/ReadIndex", Who::Roles(MANAGER)),
    ("/goat.v1.Raft/Progress", Who::Roles(MANAGER)),
    ("/goat.v1.Dispatcher/Session", Who::Roles(WORKER)),
    ("/goat.v1.Dispatcher/PushLogs", Who::Roles(WORKER)),
    ("/goat.v1.Presence/Ping", Who::Roles(MEMBER)),
    ("/goat.v1.Presence/PingFor", Who::Roles(MANAGER)),
    ("/goat.v1.Identity/JoinManager", Who::Newcomers),
    ("/goat.v1.Identity/JoinWorker", Who::Newcomers),
    ("/goat.v1.Identity/Renew", Who::Known),
    ("/goat.v1.Identity/IssueClient", Who::Roles(CLIENT)),
    ("/goat.v1.Identity/ListClients", Who::Roles(CLIENT)),
    ("/goat.v1.Identity/RevokeClient", Who::Roles(CLIENT)),
    ("/goat.v1.Identity/GetJoinToken", Who::Roles(CLIENT)),
    ("/goat.v1.Identity/GetAuthority", Who::Roles(CLIENT)),
    ("/goat.v1.Identity/RotateAuthority", Who::Roles(CLIENT)),
    ("/goat.v1.Control/CreateService", Who::Roles(CLIENT)),
    ("/goat.v1.Control/UpdateService", Who::Roles(CLIENT)),
    ("/goat.v1.Control/ScaleService", Who::Roles(CLIENT)),
    ("/goat.v1.Control/RemoveService", Who::Roles(CLIENT)),
    ("/goat.v1.Control/ListServices", Who::Roles(CLIENT)),
    ("/goat.v1.Control/GetService", Who::Roles(CLIENT)),
    ("/goat.v1.Control/ListTasks", Who::Roles(CLIENT)),
    ("/goat.v1.Control/GetTask", Who::Roles(CLIENT)),
    ("/goat.v1.Control/TaskLogs", Who::Roles(CLIENT)),
    ("/goat.v1.Control/ListNodes", Who::Roles(CLIENT)),
    ("/goat.v1.Control/GetNode", Who::Roles(CLIENT)),
    ("/goat.v1.Control/SetNodeLabels", Who::Roles(CLIENT)),
    ("/goat.v1.Control/SetNodeAvailability", Who::Roles(CLIENT)),
    ("/goat.v1.Control/RemoveNode", Who::Roles(CLIENT)),
    ("/goat.v1.Control/Freeze", Who::Roles(CLIENT)),
    ("/goat.v1.Control/UpgradeCluster", Who::Roles(CLIENT)),
    ("/goat.v1.Control/GetStatus", Who::Roles(CLIENT)),
    ("/goat.v1.Control/WatchEvents", Who::Roles(CLIENT)),
    ("/goat.v1.Control/SaveSnapshot", Who::Roles(CLIENT)),
    ("/goat.v1.Control/GetDebug", Who::Roles(CLIENT)),
    ("/goat.v1.Control/RestoreServices", Who::Roles(CLIENT)),
    ("/goat.v1.Control/ListPeers", Who::Roles(CLIENT)),
    ("/goat.v1.Control/SetManager", Who::Roles(CLIENT)),
    ("/goat.v1.Control/SetManagerAddress", Who::Roles(CLIENT)),
    ("/goat.v1.Control/TransferLeader", Who::Roles(CLIENT)),
];

/// Lets through what the table allows.
#[derive(Debug, Clone)]
pub struct GateLayer {
    seat: Seat,
}

impl GateLayer {
    pub const fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, seat: self.seat.clone() }
    }
}

/// See [`GateLayer`].
#[derive(Debug, Clone)]
pub struct Gate<S> {
    inner: S,
    seat: Seat,
}

impl<S, B> Service<http::Request<B>> for Gate<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        futures::future::Either<futures::future::Ready<Result<Self::Response, Self::Error>>, Instrumented<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.admit(&request) {
            Ok(()) => {
                let header = goat_observe::traces::extract(request.headers());
                let method = request.uri().path();
                let span = goat_observe::follow!(header, "request", "otel.name" = method, "otel.kind" = "server");
                futures::future::Either::Right(self.inner.call(request).instrument(span))
            }
            Err(status) => futures::future::Either::Left(futures::future::ready(Ok(status.into_http()))),
        }
    }
}

impl<S> Gate<S> {
    fn admit<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        let path = request.uri().path();
        let caller = request.extensions().get::<Caller>();
        let caller = caller.ok_or_else(|| Status::internal("who calls was lost on the way"))?;
        if let (Some(subject), Some(group)) = (caller.known(), self.seat.group()) {
            check_member(path, subject, &group)?;
        }
        check(path, caller)
    }
}

/// Whether who calls belongs to this cluster, and still does.
fn check_member(path: &str, subject: &Subject, group: &Group) -> Result<(), Status> {
    let own = group.cluster().to_string();
    if subject.cluster != own {
        let text = format!("this is cluster {own}, and the certificate is one of cluster {}", subject.cluster);
        return Err(Status::permission_denied(text));
    }
    // A manager that was removed has to hear so.
    let asks_why = path == "/goat.v1.Raft/Progress";
    let is_removed =
        subject.role == Role::Manager && subject.id.parse().is_ok_and(|id| !asks_why && group.is_removed(id));
    if is_removed {
        return Err(Status::permission_denied(format!("manager {} was removed from the cluster", subject.id)));
    }
    if subject.role == Role::Client && group.view().read().is_client_revoked(&subject.id) {
        return Err(Status::permission_denied(format!(
            "the certificate of {} was revoked: ask for one of another name (`goatctl cluster issue-client`)",
            subject.id
        )));
    }
    let node: Option<NodeId> = (subject.role == Role::Worker).then(|| subject.id.parse().ok()).flatten();
    match node.filter(|node| group.view().directory().is_revoked(*node)) {
        Some(id) => Err(removed(id)),
        None => Ok(()),
    }
}

/// A worker that hears this stops what it runs.
fn removed(id: NodeId) -> Status {
    let mut status = Status::permission_denied(Refusal::NodeRemoved { id }.to_string());
    status.metadata_mut().insert(goat_proto::REMOVED, MetadataValue::from_static("true"));
    status
}

/// What the table says of a caller.
pub fn check(path: &str, caller: &Caller) -> Result<(), Status> {
    let rule = RULES.iter().find(|(known, _)| *known == path).map(|(_, who)| *who);
    let Some(who) = rule else {
        return Err(Status::unimplemented(format!("there is no {path} on this manager")));
    };
    // On loopback, because the user wants it so.
    if caller.is_plaintext {
        return Ok(());
    }
    match (who, &caller.subject) {
        (Who::Newcomers, _) => Ok(()),
        (Who::Known, _) if caller.known().is_some() => Ok(()),
        (Who::Roles(roles), Some(subject)) if roles.contains(&subject.role) => Ok(()),
        (_, Some(subject)) => {
            Err(Status::permission_denied(format!("a certificate for a {} is not good for {path}", subject.role)))
        }
        (_, None) if caller.outdated.is_some() => Err(Status::unauthenticated(
            "this worker's certificate has expired, or is not valid yet, by this manager's clock: the worker asks for a new one by \
             itself; if that takes more than a minute, is this clock right?",
        )),
        (_, None) => Err(Status::unauthenticated(
            "no certificate was shown: give goatctl its credentials (--credentials FILE, or a context), or let the machine join",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use prost::Message;
    use tonic::Code;

    use super::*;

    /// Every method in the `.proto` files.
    fn methods() -> BTreeSet<String> {
        let set = prost_types::FileDescriptorSet::decode(goat_proto::DESCRIPTORS).expect("the build made it");
        let mut methods = BTreeSet::new();
        for file in set.file {
            for service in &file.service {
                let path = |method: &prost_types::MethodDescriptorProto| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                };
                methods.extend(service.method.iter().map(path));
            }
        }
        methods
    }

    fn caller(role: Option<Role>) -> Caller {
        let subject = role.map(|role| Arc::new(Subject { role, id: "1".into(), cluster: "c".into() }));
        Caller { subject, outdated: None, is_plaintext: false, address: None }
    }

    #[test]
    fn every_method_has_one_rule() {
        let ruled: Vec<String> = RULES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(ruled.len(), ruled.iter().collect::<BTreeSet<_>>().len(), "two rules for one method");
        assert_eq!(ruled.into_iter().collect::<BTreeSet<_>>(), methods());
    }

    #[test]
    fn every_cell_of_the_matrix_is_as_the_service_is_meant() {
        for method in methods() {
            let callers = [Some(Role::Manager), Some(Role::Worker), Some(Role::Client), None];
            let is_let_in = callers.map(|role| check(&method, &caller(role)).is_ok());
            let wanted = match method.split(['.', '/']).nth(3) {
                Some("Raft") => [true, false, false, false],
                Some("Dispatcher") => [true, true, false, false],
                Some("Presence") if method.ends_with("PingFor") => [true, false, false, false],
                Some("Presence") => [true, true, false, false],
                Some("Identity") if method.contains("/Join") => [true; 4],
                Some("Identity") if method.ends_with("/Renew") => [true, true, true, false],
                Some("Identity" | "Control") => [true, false, true, false],
                other => panic!("a service that is not in this test: {other:?}"),
            };
            assert_eq!(is_let_in, wanted, "{method}: manager, worker, client, nobody");
        }
    }

    #[test]
    fn an_outdated_certificate_is_good_for_a_new_one_alone() {
        let outdated = Caller { outdated: caller(Some(Role::Worker)).subject, ..caller(None) };
        for method in methods() {
            let is_for_newcomers = method.contains("/Join");
            let is_let_in = check(&method, &outdated).is_ok();
            assert_eq!(is_let_in, is_for_newcomers || method.ends_with("/Renew"), "{method}");
        }
    }

    #[test]
    fn what_is_in_no_table_is_open_to_nobody() {
        let refused = check("/goat.v1.Control/DropEverything", &caller(Some(Role::Manager)));
        assert_eq!(refused.expect_err("it does not exist").code(), Code::Unimplemented);
    }
}
