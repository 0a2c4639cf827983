//! openraft's messages as bytes: a version byte, then MessagePack. Both ends are managers of one cluster.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

const VERSION: u8 = 1;

/// Encodes a message.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut out = vec![VERSION];
    rmp_serde::encode::write_named(&mut out, value)?;
    Ok(out)
}

/// Decodes what [`encode`] of this or an older build wrote.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            rmp_serde::from_slice(body).map_err(|error| Status::invalid_argument(format!("raft message: {error}")))
        }
        Some((version, _)) => {
            Err(Status::unimplemented(format!("raft message of version {version}; this build reads {VERSION}")))
        }
        None => Err(Status::invalid_argument("raft message: empty")),
    }
}
