//! Who is who in a cluster, and how its members talk without being overheard.
//!
//! | module | what |
//! | --- | --- |
//! | [`authority`] | the cluster's certificate authority: signs certificates |
//! | [`credentials`] | one member's key, its certificate, and the authorities it believes; one file |
//! | [`subject`] | whom a certificate names |
//! | [`token`] | what a newcomer is given: a secret, and the digest of the authority it may believe |
//! | [`transport`] | the present credentials as TLS settings, replaced while connections go on |
//! | [`connect`], [`accept`] | connections outwards and inwards |
//! | `places` | how many connections each class of callers has |
//! | `handshake_thread` | where handshakes run, so that they do not delay connections |
//! | `outdated` | whose certificates are taken inwards |
//! | [`network`] | what they go over: TCP, unless a simulation says otherwise |
//!
//! A certificate is for a role and an id, not for a host: `manager.goat` is what every manager is called in TLS. So
//! addresses may change without a new certificate, and no worker can pass for a manager.
#![forbid(unsafe_code)]

pub mod accept;
pub mod authority;
pub mod connect;
pub mod credentials;
mod handshake_thread;
pub mod network;
mod outdated;
mod places;
mod stream;
pub mod subject;
pub mod token;
pub mod transport;

pub use accept::{Caller, Class, Incoming, Limits};
pub use authority::{Authority, Validity};
pub use connect::Connector;
pub use credentials::Credentials;
pub use network::{Listener, Network};
pub use places::{Overflow, Share, source};
pub use subject::{Role, Subject};
pub use token::JoinToken;
pub use transport::Transport;

/// What is wrong with a certificate, a key, a token or a file of them; says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} cannot be read: {problem}")]
    Malformed { what: &'static str, problem: String },
    #[error("{path}: {source}")]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error("{path} may be read by others than its owner (mode {mode:o}): it holds a private key; `chmod 600 {path}`")]
    Exposed { path: std::path::PathBuf, mode: u32 },
    #[error("the certificate is for {certificate}, the key is another's: restore the file, or join again")]
    KeyMismatch { certificate: String },
    #[error("making a certificate: {0}")]
    Make(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Error {
    pub(crate) fn malformed(what: &'static str, problem: impl ToString) -> Self {
        Self::Malformed { what, problem: problem.to_string() }
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}
