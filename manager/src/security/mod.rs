//! Who may talk to this manager, and how certificates come about.
//!
//! | module | what |
//! | --- | --- |
//! | [`issue`] | signs certificates with the authority in the replicated state |
//! | [`gate`] | which role may call what |
//! | [`guesses`] | counts wrong join secrets |
//! | [`keeper`] | keeps this manager's own certificate new, and that of the rotation's step |
//! | [`rotation`] | the leader's: takes the next step of a rotation when every member has followed |

pub mod gate;
pub mod guesses;
pub mod issue;
pub mod keeper;
pub mod rotation;

use std::path::{Path, PathBuf};

use goat_tls::{Credentials, Transport};

/// In the data directory: this manager's key, its certificate and the authorities that it believes.
const FILE: &str = "identity.pem";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] goat_tls::Error),
    #[error(
        "{0} is missing, with which this manager shows who it is: restore it from a backup; or remove this manager with `goatctl \
         manager rm`, empty the directory and let it join anew; or, where the cluster was made with --plaintext, say so here as well"
    )]
    Missing(PathBuf),
    #[error("{0} is there, so the cluster is encrypted: leave out --plaintext")]
    NotPlaintext(PathBuf),
}

/// Where the credentials of the manager in that directory are.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// How the manager in that directory talks to others.
pub fn transport(data_dir: &Path, is_plaintext: bool) -> Result<Transport, Error> {
    let path = path(data_dir);
    match (Credentials::load(&path)?, is_plaintext) {
        (Some(_), true) => Err(Error::NotPlaintext(path)),
        (Some(credentials), false) => Ok(Transport::new(credentials)?),
        (None, true) => Ok(Transport::plaintext()),
        (None, false) => Err(Error::Missing(path)),
    }
}
