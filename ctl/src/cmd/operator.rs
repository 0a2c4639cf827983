//! `operator raft`: the managers themselves.

use goat_proto::v1::{ListPeersRequest, Peer, TransferLeaderRequest};
use serde_json::json;

use super::Context;
use crate::exit::Failure;
use crate::rows::PeerRow;

pub async fn list_peers(context: &Context, quiet: bool) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let reply = client.unary(ListPeersRequest {}, async |control, request| control.list_peers(request).await).await?;
    if quiet {
        return out.names(reply.peers.iter().map(|peer| &peer.name));
    }
    if out.is_json() {
        return out.json(&reply.peers.iter().map(PeerRow::from).collect::<Vec<_>>());
    }
    let row = |peer: &Peer| {
        let told = |text: String| if peer.reachable { text } else { "-".into() };
        vec![
            peer.id.to_string(),
            peer.name.clone(),
            peer.address.clone(),
            peer.role.clone(),
            if peer.reachable { "yes".into() } else { "no".into() },
            told(peer.term.to_string()),
            told(peer.last_log_index.to_string()),
            told(peer.applied_index.to_string()),
            told(peer.version.clone()),
            told(peer.format.to_string()),
        ]
    };
    let header =
        ["ID", "NAME", "ADDRESS", "ROLE", "REACHABLE", "TERM", "LAST LOG INDEX", "APPLIED INDEX", "VERSION", "FORMAT"];
    out.table(&header, reply.peers.iter().map(row).collect())
}

pub async fn transfer_leader(context: &Context, to: String) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let request = TransferLeaderRequest { to };
    let reply = client.unary(request, async |control, request| control.transfer_leader(request).await).await?;
    if out.is_json() {
        return out.json(&json!({ "leader": reply.leader, "term": reply.term }));
    }
    out.line(format_args!("{} leads, term {}", reply.leader, reply.term))
}
