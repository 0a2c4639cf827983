//! The wire: the `.proto` files under `goat/v1`, what is generated from them, and the conversions to and from core's
//! types. Nothing else in the project converts between the two.
#![forbid(unsafe_code)]
#![allow(missing_debug_implementations, reason = "generated clients and servers")]

pub mod convert;
pub mod logs;

/// Generated from `goat/v1/*.proto`.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("goat.v1");
}

/// In the metadata of a refusal: whoever asks was removed from the cluster, and what it runs is not wanted any more.
pub const REMOVED: &str = "goat-removed";

/// In the metadata of a refusal: up to which log index the state was read that it rests on.
pub const READ_INDEX: &str = "goat-read-index";
/// In the metadata of a refusal: the log index at which the command was refused.
pub const LOG_INDEX: &str = "goat-log-index";

/// The compiled descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages above this many bytes are refused by every server and client of ours.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
