//! What certificates and invitations rest on, as the managers replicate it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that must not be seen: neither in logs nor in errors.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A certificate authority of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: Secret,
}

/// Who may be invited with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invited {
    Manager,
    Worker,
}

/// The secrets inside join tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSecrets {
    pub manager: Secret,
    pub worker: Secret,
}

impl JoinSecrets {
    pub const fn of(&self, invited: Invited) -> &Secret {
        match invited {
            Invited::Manager => &self.manager,
            Invited::Worker => &self.worker,
        }
    }
}
