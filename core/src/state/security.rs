//! Certificate authorities, and the secrets of join tokens.
//!
//! A rotation of the authority has three steps, so that at no time a member meets a certificate that it does not
//! believe:
//! ```text
//!  announced  the new one is believed by everybody; the old one still signs
//!  signing    the new one signs; everybody renews
//!  done       the old one is forgotten, and what it signed is worth nothing
//! ```

use serde::{Deserialize, Serialize};

use super::apply::{Apply, Done};
use super::change::RowChange;
use super::command::{Answer, Refusal};
use super::is_zero;
use super::rows::{LoadError, security_key};
use crate::codec::{self, Versioned};
use crate::model::{Authority, Invited, JoinSecrets, Secret};

/// A certificate or a key in PEM is well below.
const MAX_PEM_BYTES: usize = 16 << 10;
const MAX_SECRET_BYTES: usize = 256;

/// The row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Those to believe, oldest first: one, or two while it is being rotated.
    pub authorities: Vec<Authority>,
    /// Which of them signs.
    signer: usize,
    pub secrets: JoinSecrets,
    /// The version from which the authority that signs has signed; 0 for the first one, and under the first format.
    #[serde(default, skip_serializing_if = "is_zero")]
    signs_since: u64,
    /// The log index of its last change.
    pub version: u64,
}

impl Versioned for Security {}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    None,
    Announced,
    Signing,
}

impl Security {
    /// The one that signs.
    pub fn signer(&self) -> &Authority {
        &self.authorities[self.signer.min(self.authorities.len() - 1)]
    }

    /// The certificates of those to believe (PEM).
    pub fn believed(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    pub fn rotation(&self) -> Rotation {
        match (self.authorities.len(), self.signer) {
            (0 | 1, _) => Rotation::None,
            (_, 0) => Rotation::Announced,
            _ => Rotation::Signing,
        }
    }
}

impl Apply<'_> {
    pub(super) fn init_security(&mut self, authority: &Authority, secrets: &JoinSecrets) -> Done {
        if self.state.security.is_some() {
            return Err(Refusal::Impossible { what: "the cluster has a certificate authority already".into() });
        }
        check_authority(authority)?;
        for invited in [Invited::Manager, Invited::Worker] {
            check_secret(secrets.of(invited))?;
        }
        let authorities = vec![authority.clone()];
        self.put_security(Security { authorities, signer: 0, secrets: secrets.clone(), signs_since: 0, version: 0 })
    }

    pub(super) fn rotate_secret(&mut self, invited: Invited, secret: &Secret) -> Done {
        check_secret(secret)?;
        let mut security = self.security()?;
        match invited {
            Invited::Manager => security.secrets.manager = secret.clone(),
            Invited::Worker => security.secrets.worker = secret.clone(),
        }
        self.put_security(security)
    }

    pub(super) fn announce_authority(&mut self, authority: &Authority) -> Done {
        check_authority(authority)?;
        let mut security = self.security()?;
        if security.rotation() != Rotation::None {
            let what = "the certificate authority is being rotated already; `goatctl cluster ca` says how far it is";
            return Err(Refusal::Impossible { what: what.into() });
        }
        security.authorities.push(authority.clone());
        self.put_security(security)
    }

    /// `seen`: the version that was looked at, lest a step is taken that was meant for another rotation.
    pub(super) fn advance_rotation(&mut self, seen: u64) -> Done {
        let mut security = self.security()?;
        if security.version != seen {
            return Err(Refusal::Stale { seen, found: security.version });
        }
        match security.rotation() {
            Rotation::None => {
                return Err(Refusal::Impossible { what: "the certificate authority is not being rotated".into() });
            }
            Rotation::Announced => {
                security.signer = security.authorities.len() - 1;
                security.signs_since = if self.state.is_bounded() { self.at.index } else { 0 };
                self.mark_clients_before_signer();
            }
            Rotation::Signing => {
                security.authorities.drain(..security.signer);
                security.signer = 0;
                // 0: it was begun under the first format, and the next one forgets them.
                self.forget_revoked_before(security.signs_since);
                self.forget_clients_before_signer();
            }
        }
        self.put_security(security)
    }

    fn security(&self) -> Result<Security, Refusal> {
        let what = || "the cluster has no certificate authority: its managers run with --plaintext".to_owned();
        self.state.security.clone().ok_or_else(|| Refusal::Impossible { what: what() })
    }

    fn put_security(&mut self, mut security: Security) -> Done {
        security.version = self.at.index;
        self.rows.push(row(&security));
        self.state.security = Some(security);
        self.changes.security = true;
        Ok(Answer::Nothing)
    }
}

pub(super) fn row(security: &Security) -> RowChange {
    RowChange { key: security_key(), value: Some(codec::encode(security)) }
}

pub(super) fn read(value: &[u8]) -> Result<Security, LoadError> {
    let security: Security = codec::decode("security row", value)?;
    if security.authorities.is_empty() {
        return Err(LoadError::Contradiction("there is no certificate authority in the row of them".into()));
    }
    if security.signer >= security.authorities.len() {
        return Err(LoadError::Contradiction("the certificate authority that signs is not there".into()));
    }
    Ok(security)
}

fn check_authority(authority: &Authority) -> Result<(), Refusal> {
    check("certificate", &authority.certificate, MAX_PEM_BYTES)?;
    check("key", authority.key.expose(), MAX_PEM_BYTES)
}

fn check_secret(secret: &Secret) -> Result<(), Refusal> {
    check("secret", secret.expose(), MAX_SECRET_BYTES)
}

fn check(field: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > most {
        let problem = format!("{} bytes, where 1 to {most} are expected", text.len());
        return Err(Refusal::Invalid { field: field.into(), problem });
    }
    Ok(())
}
