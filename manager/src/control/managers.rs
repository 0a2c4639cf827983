//! Managers: promote, demote, remove.

use goat_core::membership::{advice, is_quorum};
use goat_core::model::{Manager, Standing};
use goat_core::state::command::Action;
use goat_proto::v1;
use tonic::Status;

use super::Control;
use super::cluster::peers;
use super::lookup;
use crate::raft::{Group, seat};

impl Control {
    pub(super) async fn set_manager_(&self, request: v1::SetManagerRequest) -> Result<v1::SetManagerReply, Status> {
        let group = self.group()?;
        let standing = parse_standing(&request.standing)?;
        group.linearize().await.map_err(|error| error.into_status(&group))?;
        let manager = find(&group, &request.reference)?;
        let peers = peers(&group).await;
        let becomes = |peer: &v1::Peer| match peer.id == manager.id {
            true => standing == Standing::Voter,
            false => peer.standing == Standing::Voter.as_str(),
        };
        let voters: Vec<_> = peers.iter().filter(|peer| becomes(peer)).collect();
        let reached = voters.iter().filter(|peer| peer.reachable).count();
        let loses_quorum = standing != Standing::Voter && !voters.is_empty() && !is_quorum(reached, voters.len());
        if loses_quorum && !request.force {
            let missing: Vec<_> = voters.iter().filter(|peer| !peer.reachable).map(|peer| peer.name.as_str()).collect();
            return Err(Status::failed_precondition(format!(
                "without {} only {reached} of {} voting managers would be reached (not {}), and no change could be decided any \
                 more: bring those back or remove them first; --force does it all the same",
                manager.name,
                voters.len(),
                missing.join(", ")
            )));
        }
        let action = Action::SetManager { id: manager.id, standing };
        let (_, index) = self.mutate(&group, &request.request_id, action).await?;
        let advice = advice(voters.len()).unwrap_or_default();
        Ok(v1::SetManagerReply { id: manager.id, name: manager.name, index, advice })
    }

    pub(super) async fn set_manager_address_(
        &self,
        request: v1::SetManagerAddressRequest,
    ) -> Result<v1::SetManagerReply, Status> {
        let group = self.group()?;
        lookup::check_length("address", &request.address)?;
        group.linearize().await.map_err(|error| error.into_status(&group))?;
        let Manager { id, name, .. } = find(&group, &request.reference)?;
        // This manager itself is asked too: nobody else may reach it there, and then it had better be known.
        let answer = seat::ask(group.peers(), group.id(), &request.address).await;
        let is_there = answer.as_ref().is_some_and(|reply| reply.id == id && is_of(&group, &reply.cluster_id));
        if !is_there && !request.force {
            let who = match answer {
                Some(reply) if is_of(&group, &reply.cluster_id) => format!("manager {} answers there", reply.name),
                Some(_) => "another cluster's manager answers there".to_owned(),
                None => "nobody answers there".to_owned(),
            };
            return Err(Status::failed_precondition(format!(
                "{}: {who}, and {name} should: start it with `listen` at its new address first; --force changes it all the same",
                request.address
            )));
        }
        let action = Action::SetManagerAddress { id, address: request.address };
        let (_, index) = self.mutate(&group, &request.request_id, action).await?;
        Ok(v1::SetManagerReply { id, name, index, advice: String::new() })
    }
}

fn is_of(group: &Group, cluster_id: &str) -> bool {
    group.cluster().to_string() == cluster_id
}

fn find(group: &Group, reference: &str) -> Result<Manager, Status> {
    lookup::check_length("reference", reference)?;
    let state = group.view().read();
    let is_meant = |manager: &&Manager| manager.name == reference || manager.id.to_string() == reference;
    // A name may have been another's before.
    let found = state.managers().filter(is_meant).max_by_key(|manager| (manager.is_member(), manager.id));
    found.cloned().ok_or_else(|| Status::not_found(format!("no manager {reference:?}")))
}

fn parse_standing(text: &str) -> Result<Standing, Status> {
    [Standing::Voter, Standing::Learner, Standing::Removed]
        .into_iter()
        .find(|standing| standing.as_str() == text)
        .ok_or_else(|| Status::invalid_argument(format!("standing: {text:?} is none of voter, learner, removed")))
}
