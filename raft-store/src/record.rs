//! Values of `log` and `meta` as bytes: a format version, then MessagePack by position. Rows are not ours and are kept as
//! they come.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

const VERSION: u8 = 1;

/// Encodes a record; memory is all it needs, so failing is a mistake in a type.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    rmp_serde::encode::write(&mut out, value).expect("openraft's types have a MessagePack form");
    out
}

/// Decodes what [`encode`] of this build wrote. `what` and `path` are for the message.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, path: &Path, bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&VERSION, body)) => rmp_serde::from_slice(body)
            .map_err(|error| Error::Corrupt { path: path.to_path_buf(), reason: format!("{what}: {error}") }),
        Some((&version, _)) if version > VERSION => {
            Err(Error::NewerFormat { path: path.to_path_buf(), found: version.into(), supported: VERSION.into() })
        }
        _ => Err(Error::Corrupt { path: path.to_path_buf(), reason: format!("{what}: no format version") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_newer_format_is_not_guessed_at() {
        let mut bytes = encode(&5_u64);
        assert_eq!(decode::<u64>("x", Path::new("db"), &bytes).unwrap(), 5);
        bytes[0] = VERSION + 1;
        assert!(matches!(decode::<u64>("x", Path::new("db"), &bytes), Err(Error::NewerFormat { found: 2, .. })));
        assert!(matches!(decode::<u64>("x", Path::new("db"), &[]), Err(Error::Corrupt { .. })));
    }
}
