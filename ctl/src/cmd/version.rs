//! `version`: this client's, and every member's.

use goat_proto::v1::{ListNodesRequest, ListPeersRequest};
use serde_json::json;

use super::Context;
use crate::exit::Failure;
use crate::output::Out;

const OWN: &str = env!("CARGO_PKG_VERSION");

/// Of this client alone; asks nobody.
pub fn client(out: &Out) -> Result<(), Failure> {
    if out.is_json() { out.json(&json!({ "version": OWN })) } else { out.line(format_args!("goatctl {OWN}")) }
}

pub async fn all(context: &Context) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    if !out.is_json() {
        // Worth knowing also where no manager answers.
        self::client(&context.out)?;
    }
    let peers = client.unary(ListPeersRequest {}, async |control, request| control.list_peers(request).await);
    let managers = peers.await?.peers;
    let mut workers: Vec<(String, String)> = client
        .list_nodes(ListNodesRequest::default())
        .await?
        .nodes
        .into_iter()
        .map(|node| (node.name, node.inventory.map(|inventory| inventory.agent_version).unwrap_or_default()))
        .collect();
    workers.sort();
    if out.is_json() {
        let managers = managers.iter().map(|peer| {
            let known = |text: &str| peer.reachable.then(|| text.to_owned());
            json!({ "name": peer.name, "version": known(&peer.version), "format": peer.reachable.then_some(peer.format) })
        });
        let workers = workers.iter().map(|(name, version)| json!({ "name": name, "version": version }));
        return out.json(&json!({
            "version": OWN, "managers": managers.collect::<Vec<_>>(), "workers": workers.collect::<Vec<_>>(),
        }));
    }
    let told = |text: String| if text.is_empty() || text == "0" { "-".to_owned() } else { text };
    let managers = managers
        .into_iter()
        .map(|peer| vec![peer.name, "manager".into(), told(peer.version), told(peer.format.to_string())]);
    let workers = workers.into_iter().map(|(name, version)| vec![name, "worker".into(), told(version), "-".into()]);
    out.table(&["MEMBER", "ROLE", "VERSION", "FORMAT"], managers.chain(workers).collect())
}
