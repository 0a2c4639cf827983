//! `cluster client`: users' certificates, as the cluster lists them.

use goat_proto::v1::{Client, ListClientsRequest, RevokeClientRequest};
use serde_json::json;

use super::Context;
use crate::cli::ClientCommand;
use crate::client::request_id;
use crate::exit::Failure;
use crate::output::{local_time, rfc3339};

pub async fn run(context: &Context, command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Ls { quiet } => ls(context, quiet).await,
        ClientCommand::Revoke { name } => revoke(context, name).await,
    }
}

async fn ls(context: &Context, quiet: bool) -> Result<(), Failure> {
    let out = context.out;
    let clients = clients(context).await?;
    if quiet {
        return out.names(clients.iter().map(|client| &client.name));
    }
    let time = |ms: u64| (ms > 0).then_some(ms);
    if out.is_json() {
        let row = |client: &Client| {
            json!({
                "name": client.name,
                "issued_at": time(client.issued_at_ms).and_then(rfc3339),
                "expires_at": time(client.expires_at_ms).and_then(rfc3339),
                "revoked_at": time(client.revoked_at_ms).and_then(rfc3339),
            })
        };
        return out.json(&clients.iter().map(row).collect::<Vec<_>>());
    }
    let shown = |ms: u64| time(ms).map_or_else(|| "-".to_owned(), local_time);
    let row = |client: &Client| {
        vec![client.name.clone(), shown(client.issued_at_ms), shown(client.expires_at_ms), shown(client.revoked_at_ms)]
    };
    out.table(&["NAME", "ISSUED", "EXPIRES", "REVOKED"], clients.iter().map(row).collect())
}

async fn clients(context: &Context) -> Result<Vec<Client>, Failure> {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let request =
            ListClientsRequest { after: clients.last().map(|client| client.name.clone()).unwrap_or_default() };
        let page = context.client.identity(request, async |identity, request| identity.list_clients(request).await);
        let page = page.await?;
        let is_last = !page.more || page.clients.is_empty();
        clients.extend(page.clients);
        if is_last {
            return Ok(clients);
        }
    }
}

async fn revoke(context: &Context, name: String) -> Result<(), Failure> {
    let request = RevokeClientRequest { request_id: request_id(), name: name.clone() };
    context.client.identity(request, async |identity, request| identity.revoke_client(request).await).await?;
    if context.out.is_json() {
        return context.out.json(&json!({ "name": name, "revoked": true }));
    }
    context.out.line(format_args!("{name}  revoked"))
}
