//! Pieces of a task's output in a form that may wait unread.
//!
//! HTTP/2 libraries close a connection on which many small DATA frames wait to be read, since each costs more memory than it
//! counts in the window (h2: `too_many_data_frames`, a budget for frames below 256 bytes). A reader of output may stop reading
//! while a task prints short lines. So small pieces that are there at the same time are sent as one, and a piece that is still
//! small is padded.

use crate::v1::LogChunk;

/// A piece is at least so large when it is sent.
const MIN_BYTES: usize = 512;

/// The same piece, large enough to wait unread.
pub fn padded(chunk: LogChunk) -> LogChunk {
    let missing = MIN_BYTES.saturating_sub(chunk.data.len());
    LogChunk { padding: vec![0; missing].into(), ..chunk }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_small_piece_is_large_enough_to_wait_and_a_large_one_grows_little() {
        for length in [0, 1, MIN_BYTES - 1, MIN_BYTES, 64 << 10] {
            let chunk = LogChunk { data: vec![7; length].into(), stream: "stdout".into(), ..Default::default() };
            let sent = padded(chunk.clone());
            assert!(sent.encoded_len() >= MIN_BYTES, "{length} bytes");
            assert!(sent.encoded_len() <= length + MIN_BYTES + 32, "{length} bytes");
            assert_eq!((sent.data, sent.stream), (chunk.data, chunk.stream));
        }
    }
}
