//! Users' certificates: the names that were issued, and the names that are revoked.
//!
//! A revoked name is refused and is not issued again. Nothing here is forgotten by a clock: the rows of certificates that an
//! authority signed go when that authority is forgotten, since the certificates are worth nothing from then on.

use serde::{Deserialize, Serialize};

use super::State;
use super::apply::{Apply, Done};
use super::change::RowChange;
use super::command::{Answer, Refusal};
use super::rows::client_key;
use crate::codec::{self, BOUNDED_FORMAT, Versioned};

/// Names of clients that the cluster keeps.
pub const MAX_CLIENTS: usize = 10_000;
/// Of a client's name.
pub const MAX_CLIENT_NAME_BYTES: usize = 64;

/// A client's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub name: String,
    /// When the newest certificate of this name was issued (Unix ms); `None` if none was issued since the cluster lists them.
    pub issued_at_ms: Option<u64>,
    /// When the newest certificate of this name ends (Unix ms).
    pub expires_at_ms: Option<u64>,
    /// When the name was revoked (Unix ms).
    pub revoked_at_ms: Option<u64>,
    /// The certificates are of an authority that does not sign any more.
    #[serde(default)]
    predates_signer: bool,
}

impl Versioned for Client {
    fn format(&self) -> u8 {
        BOUNDED_FORMAT
    }
}

impl State {
    /// All clients' names that are known, in order.
    pub fn clients(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.clients.values()
    }

    pub fn client(&self, name: &str) -> Option<&Client> {
        self.clients.get(name)
    }

    /// Whether certificates of this name are refused.
    pub fn is_client_revoked(&self, name: &str) -> bool {
        self.clients.get(name).is_some_and(|client| client.revoked_at_ms.is_some())
    }
}

impl Apply<'_> {
    pub(super) fn issue_client(&mut self, name: &str, expires_at_ms: u64) -> Done {
        let mut client = self.named_client(name)?;
        if client.revoked_at_ms.is_some() {
            let what = format!("client {name} was revoked: issue a certificate for another name");
            return Err(Refusal::Impossible { what });
        }
        client.issued_at_ms = Some(self.now_ms);
        client.expires_at_ms = Some(expires_at_ms);
        client.predates_signer = false;
        self.put_client(client)
    }

    /// Also a name that is not listed: certificates of earlier versions are not.
    pub(super) fn revoke_client(&mut self, name: &str) -> Done {
        let mut client = self.named_client(name)?;
        client.revoked_at_ms.get_or_insert(self.now_ms);
        self.put_client(client)
    }

    /// Another authority signs: nothing that was issued before is of it.
    pub(super) fn mark_clients_before_signer(&mut self) {
        let clients: Vec<Client> = self.state.clients.values().cloned().collect();
        for client in clients {
            self.write_client(Client { predates_signer: true, ..client });
        }
    }

    /// The authorities before the one that signs are forgotten, and with them what they signed.
    pub(super) fn forget_clients_before_signer(&mut self) {
        let names: Vec<String> = self
            .state
            .clients
            .values()
            .filter(|client| client.predates_signer)
            .map(|client| client.name.clone())
            .collect();
        for name in names {
            self.delete(client_key(&name));
            self.state.clients.remove(&name);
        }
    }

    fn named_client(&self, name: &str) -> Result<Client, Refusal> {
        if name.is_empty() || name.len() > MAX_CLIENT_NAME_BYTES {
            let problem = format!("{} bytes, and 1 to {MAX_CLIENT_NAME_BYTES} are allowed", name.len());
            return Err(Refusal::Invalid { field: "name".into(), problem });
        }
        if let Some(client) = self.state.clients.get(name) {
            return Ok(client.clone());
        }
        if self.state.clients.len() >= MAX_CLIENTS {
            let what = format!(
                "{MAX_CLIENTS} names of clients are known, and more are not allowed: `goatctl cluster ca rotate` forgets them all"
            );
            return Err(Refusal::Impossible { what });
        }
        Ok(Client {
            name: name.to_owned(),
            issued_at_ms: None,
            expires_at_ms: None,
            revoked_at_ms: None,
            predates_signer: false,
        })
    }

    fn put_client(&mut self, client: Client) -> Done {
        self.write_client(client);
        self.changes.security = true;
        Ok(Answer::Nothing)
    }

    fn write_client(&mut self, client: Client) {
        self.rows.push(row(&client));
        self.state.clients.insert(client.name.clone(), client);
    }
}

pub(super) fn row(client: &Client) -> RowChange {
    RowChange { key: client_key(&client.name), value: Some(codec::encode(client)) }
}
