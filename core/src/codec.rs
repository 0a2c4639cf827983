//! Replicated bytes: one format-version byte, then MessagePack with named fields.
//!
//! Named fields let a newer build add fields with defaults and still read what an older one wrote. What an older build
//! cannot read, or would lose when it writes the value again, says so in the version byte: each value is written in the
//! oldest format that can hold it. The format in use is part of the state, and is raised by a command
//! (`Action::SetFormat`) when every manager can read the new one; nothing newer is proposed before.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format of the first version.
pub const FIRST_FORMAT: u8 = 1;
/// The format from which commands are applied in bounded pieces, placements are checked again when they are applied,
/// and retries and revocations do not depend on a count or on a clock. All managers apply a command by the format in
/// use, so that an entry written before the format was raised has the effect that it always had.
pub const BOUNDED_FORMAT: u8 = 2;
/// The newest format this build writes and reads. The feature `next-format` makes a build as a later version might be.
pub const FORMAT: u8 = if cfg!(feature = "next-format") { NEXT_FORMAT } else { BOUNDED_FORMAT };
/// The format that only builds with the feature `next-format` read.
pub const NEXT_FORMAT: u8 = BOUNDED_FORMAT + 1;

/// Room for most tasks and nodes: apply encodes one or more of them for each command.
const TYPICAL_BYTES: usize = 512;

/// A value that is replicated.
pub trait Versioned {
    /// The oldest format that can hold this value.
    fn format(&self) -> u8 {
        FIRST_FORMAT
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: empty where a format version was expected")]
    Empty { what: &'static str },
    #[error("{what}: format {found} is newer than {FORMAT}, the newest this build reads; upgrade this manager")]
    Newer { what: &'static str, found: u8 },
    #[error("{what}: not decodable")]
    Decode { what: &'static str, source: rmp_serde::decode::Error },
}

/// Encodes a value of ours, in the oldest format that can hold it.
pub fn encode<T: Serialize + Versioned>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(TYPICAL_BYTES);
    out.push(value.format());
    rmp_serde::encode::write_named(&mut out, value)
        .expect("our types have no failing serializer and memory does not fail");
    out
}

/// As [`decode`], and refuses a value that says of itself what its first byte does not: that it needs a newer build.
pub fn decode_checked<T: DeserializeOwned + Versioned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    let value: T = decode(what, bytes)?;
    match value.format() {
        found if found > FORMAT => Err(Error::Newer { what, found }),
        _ => Ok(value),
    }
}

/// Decodes what [`encode`] wrote; `what` names it in errors.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        None => Err(Error::Empty { what }),
        Some((&found, _)) if found > FORMAT => Err(Error::Newer { what, found }),
        Some((_, body)) => rmp_serde::from_slice(body).map_err(|source| Error::Decode { what, source }),
    }
}
