//! Replicated bytes: one format-version byte, then MessagePack with named fields.
//!
//! Named fields let a newer build add fields with defaults and still read what an older one wrote; the version byte is
//! for changes that this cannot carry.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The newest format this build writes and reads.
pub const FORMAT: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: empty where a format version was expected")]
    Empty { what: &'static str },
    #[error("{what}: format {found} is newer than {FORMAT}, the newest this build reads; upgrade this manager")]
    Newer { what: &'static str, found: u8 },
    #[error("{what}: not decodable")]
    Decode { what: &'static str, source: rmp_serde::decode::Error },
}

/// Encodes a value of ours.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![FORMAT];
    rmp_serde::encode::write_named(&mut out, value)
        .expect("our types have no failing serializer and memory does not fail");
    out
}

/// Decodes what [`encode`] wrote; `what` names it in errors.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        None => Err(Error::Empty { what }),
        Some((&found, _)) if found > FORMAT => Err(Error::Newer { what, found }),
        Some((_, body)) => rmp_serde::from_slice(body).map_err(|source| Error::Decode { what, source }),
    }
}
