//! What went wrong at the daemon, as one of this project's constant reasons. The daemon tells its errors in prose, so
//! this is a table of phrases; each was seen from Docker 20.10 or later.

use std::time::Duration;

use super::super::Error;

/// What the daemon, or the way to it, answered.
#[derive(Debug)]
pub(super) enum Fault {
    Answered {
        status: u16,
        message: String,
    },
    Unanswered {
        problem: String,
    },
    /// Classified already.
    Known(Error),
}

impl From<bollard::errors::Error> for Fault {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error as Docker;
        match error {
            Docker::DockerResponseServerError { status_code, message } => {
                Self::Answered { status: status_code, message: message.trim().to_owned() }
            }
            // Told in the body of an answer that began well.
            Docker::DockerStreamError { error } => Self::Answered { status: 500, message: error },
            other => Self::Unanswered { problem: with_sources(&other) },
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

impl Fault {
    pub(super) fn timed_out(limit: Duration) -> Self {
        Self::Unanswered { problem: format!("no answer within {} s", limit.as_secs()) }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether what was named is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.status() == Some(404)
    }

    fn classified(self, table: &[(&[&str], &'static str)], otherwise: &'static str) -> Error {
        match self {
            Self::Known(error) => error,
            Self::Unanswered { problem } => Error::Unreachable { problem },
            Self::Answered { message, .. } => {
                let lower = message.to_lowercase();
                let matches = |phrases: &&[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
                let reason = table.iter().find(|(phrases, _)| matches(phrases)).map_or(otherwise, |(_, reason)| reason);
                Error::failed(reason, message)
            }
        }
    }

    /// Of a call that says nothing about a task: an answer that is an error is as good as none.
    pub(super) fn general(self) -> Error {
        match self {
            Self::Known(error) => error,
            Self::Unanswered { problem } => Error::Unreachable { problem },
            Self::Answered { status, message } => Error::Unreachable { problem: format!("status {status}: {message}") },
        }
    }

    pub(super) fn on_create(self) -> Error {
        match &self {
            Self::Answered { status: 404, message } if message.to_lowercase().contains("no such image") => {
                Error::ImageMissing
            }
            Self::Answered { status: 409, message } => Error::failed("name-taken", message.clone()),
            _ => self.classified(RUNNING, "create-failed"),
        }
    }

    pub(super) fn on_start(self) -> Error {
        self.classified(RUNNING, "start-failed")
    }

    pub(super) fn on_pull(self) -> Error {
        match self {
            // The registry's trouble and the daemon's look alike only where the daemon did not answer at all.
            Self::Answered { status: 404, message } if !message.to_lowercase().contains("denied") => {
                Error::failed("image-not-found", message)
            }
            other => other.classified(PULLING, "image-pull-failed"),
        }
    }
}

const DISK_FULL: &[&str] = &["no space left on device", "disk quota exceeded"];

const RUNNING: &[(&[&str], &str)] = &[
    (DISK_FULL, "disk-full"),
    (&["port is already allocated", "address already in use"], "port-taken"),
    (&["cannot assign requested address"], "address-not-here"),
    (&["executable file not found", "no command specified"], "command-not-found"),
    (&["bind source path does not exist", "invalid mount config"], "mount-missing"),
    (&["permission denied"], "permission-denied"),
    (&["no such file or directory"], "command-not-found"),
];

const PULLING: &[(&[&str], &str)] = &[
    (DISK_FULL, "disk-full"),
    (&["denied", "unauthorized", "authentication required", "no basic auth credentials"], "image-denied"),
    (
        &[
            "connection refused",
            "no such host",
            "timeout",
            "deadline exceeded",
            "unreachable",
            "connection reset",
            "server misbehaving",
            "gave http response to https client",
            "tls",
            "x509",
            "eof",
            "temporary failure",
            "bad gateway",
            "service unavailable",
            "received unexpected http status",
            "request canceled",
        ],
        "registry-unreachable",
    ),
    (
        &["not found", "manifest unknown", "name unknown", "no matching manifest", "invalid reference"],
        "image-not-found",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, message: &str) -> Fault {
        Fault::Answered { status, message: message.into() }
    }

    fn reason(error: Error) -> &'static str {
        match error {
            Error::Failed { reason, .. } => reason,
            Error::ImageMissing => "missing",
            Error::Unreachable { .. } => "unreachable",
            Error::Unsupported { .. } => "unsupported",
        }
    }

    #[test]
    fn errors_of_starting_are_told_apart() {
        let cases = [
            (
                "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:80 failed: port is already allocated",
                "port-taken",
            ),
            ("Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use", "port-taken"),
            (
                "OCI runtime create failed: exec: \"/nope\": stat /nope: no such file or directory: unknown",
                "command-not-found",
            ),
            (
                "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH: unknown",
                "command-not-found",
            ),
            ("mkdir /var/lib/docker/overlay2/x: no space left on device", "disk-full"),
            ("something new", "start-failed"),
        ];
        for (message, expected) in cases {
            assert_eq!(reason(answered(500, message).on_start()), expected, "{message}");
        }
        assert_eq!(reason(Fault::timed_out(Duration::from_secs(1)).on_start()), "unreachable");
    }

    #[test]
    fn errors_of_pulling_are_told_apart() {
        let cases = [
            (404, "manifest for a:1 not found: manifest unknown: manifest unknown", "image-not-found"),
            (404, "pull access denied for a, repository does not exist or may require 'docker login'", "image-denied"),
            (
                500,
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "registry-unreachable",
            ),
            (500, "Get \"https://r.example/v2/\": dial tcp: lookup r.example: no such host", "registry-unreachable"),
            (500, "failed to register layer: write /x: no space left on device", "disk-full"),
            (500, "unauthorized: authentication required", "image-denied"),
            (500, "what is this", "image-pull-failed"),
        ];
        for (status, message, expected) in cases {
            assert_eq!(reason(answered(status, message).on_pull()), expected, "{message}");
        }
        assert_eq!(reason(answered(404, "No such image: a:1").on_create()), "missing");
    }
}
