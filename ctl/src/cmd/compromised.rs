//! `manager rm --compromised`: after it, nothing on the removed manager's disk opens the cluster. The disk holds the manager's
//! certificate, the authority's key, both join secrets and the environment of every service. The order matters: the manager
//! is removed before the new secrets are made, so that it never receives them.

use std::path::Path;

use goat_proto::v1::{GetJoinTokenRequest, ListServicesRequest};

use super::manager::Standing;
use super::{Context, authority, manager};
use crate::cli::WaitFlags;
use crate::client::request_id;
use crate::exit::{Failure, say};
use crate::rows::name_of;

/// `file`: the user's own credentials, which are renewed on the way.
pub async fn rm(
    context: &Context,
    reference: String,
    force: bool,
    wait: &WaitFlags,
    file: Option<&Path>,
) -> Result<(), Failure> {
    if wait.detach {
        let problem = "--compromised waits: the new authority must not be made before the manager is removed";
        return Err(Failure::usage(problem).with_hint("leave out --detach"));
    }
    let Some(file) = file else {
        return Err(Failure::usage("a cluster with --plaintext has no secrets to replace: leave out --compromised"));
    };
    manager::set(context, reference, Standing::Removed, force, wait).await?;
    for role in ["manager", "worker"] {
        let request = GetJoinTokenRequest { request_id: request_id(), role: role.into(), rotate: true };
        context.client.identity(request, async |identity, request| identity.get_join_token(request).await).await?;
        say(&format!("replaced the join token for a {role}: `goatctl cluster join-token {role}` prints the new one"));
    }
    authority::rotate(context, wait, Some(file)).await?;
    let services = context.client.list_services(ListServicesRequest::default()).await?.services;
    let has_environment =
        |service: &&goat_proto::v1::Service| service.spec.as_ref().is_some_and(|spec| !spec.env.is_empty());
    let names: Vec<&str> = services.iter().filter(has_environment).map(name_of).collect();
    if !names.is_empty() {
        say(&format!(
            "the removed disk holds environment variables of these services; change the secrets among them where they are valid, \
             then here with `goatctl service update --env`: {}",
            names.join(", ")
        ));
    }
    say(
        "other users renew their certificates with `goatctl cluster issue-client`: the old ones are refused from now on",
    );
    Ok(())
}
