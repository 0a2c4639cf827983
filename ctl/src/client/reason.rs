//! What a failed request means: whether another manager should be asked, and why, in words for people.

use std::error::Error as _;
use std::io;

use tonic::{Code, Status};

/// Why another manager should be asked, and whether this one was there; None where its answer stands.
pub fn judge(status: &Status) -> Option<(String, bool)> {
    // Only what was made on this side has a source: the connection broke, and nobody knows how far the request came;
    // or, where that is UNAVAILABLE, there was none.
    if status.source().is_some() {
        let is_reached = status.code() != Code::Unavailable;
        return Some((cause(status).unwrap_or_else(|| status.message().to_owned()), is_reached));
    }
    match status.code() {
        // Cancelled and deadline: the manager gave up on its own limits, of which another may have more left.
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
            let text = status.message();
            Some((if text.is_empty() { "unavailable".into() } else { text.into() }, true))
        }
        _ => None,
    }
}

/// What the innermost error says, in words for people where it is a usual one; None for a connection that timed out.
pub fn cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(error) = innermost.downcast_ref::<goat_tls::connect::Error>()
            && let Some(why) = error.tls()
        {
            return Some(why);
        }
        if let Some(io) = innermost.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Some("connection refused: no manager listens there".into()),
                io::ErrorKind::TimedOut => return None,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    return Some("the connection broke".into());
                }
                _ => {}
            }
        }
    }
    let text = innermost.to_string();
    // What h2 makes of the beginning of a TLS handshake.
    match text.contains("frame with invalid size") {
        true => Some("it does not answer in plaintext: leave out --plaintext and give credentials".into()),
        false => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_another_manager_would_give_too_is_final() {
        for code in [Code::NotFound, Code::InvalidArgument, Code::Aborted, Code::Internal, Code::Unimplemented] {
            assert_eq!(judge(&Status::new(code, "x")), None);
        }
        assert_eq!(judge(&Status::unavailable("no leader")), Some(("no leader".into(), true)));
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(judge(&broken).is_some());
    }
}
