//! What went wrong at the daemon, as one of this project's constant reasons. The daemon tells its errors in prose, so
//! this is a table of phrases; each was seen from Docker 20.10 or later.

use std::time::Duration;

use goat_system::problem;

use super::super::Error;
use super::api;

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
            Docker::DockerResponseServerError { status_code, message }
                if api::is_version_refused(status_code, message.trim()) =>
            {
                Self::Unanswered { problem: message.trim().to_owned() }
            }
            Docker::DockerResponseServerError { status_code, message } => {
                Self::Answered { status: status_code, message: message.trim().to_owned() }
            }
            // Told in the body of an answer that began well.
            Docker::DockerStreamError { error } => Self::Answered { status: 500, message: error },
            other => Self::Unanswered { problem: problem::whole(&other) },
        }
    }
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
        if self.is_absent() {
            return Error::ContainerMissing;
        }
        self.classified(RUNNING, "start-failed")
    }

    /// `image` as it was asked for: the daemon repeats it, and a name may read like a reason.
    pub(super) fn on_pull(self, image: &str) -> Error {
        let Self::Answered { status, message } = self else {
            // The registry's trouble and the daemon's look alike only where the daemon did not answer at all.
            return self.classified(PULLING, "image-pull-failed");
        };
        let said = without_name(&message, image);
        match (Self::Answered { status, message: said }).classified(PULLING, "image-pull-failed") {
            Error::Failed { reason: "image-pull-failed", .. } if status == 404 => {
                Error::failed("image-not-found", message)
            }
            Error::Failed { reason, .. } => Error::failed(reason, message),
            other => other,
        }
    }
}

/// What the daemon said, without the name that it was asked for: a repository called `denied` is not a reason.
fn without_name(message: &str, image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let path = name.split_once('/').map_or(name, |(_, path)| path);
    let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let mut said = message.replace(&format!("/v2/{repository}/"), "/v2/_/").replace(&format!("/manifests/{tag}"), "");
    // A short one may be a word of the daemon's own.
    for name in [name, name.strip_suffix(&format!(":{tag}")).unwrap_or(name)] {
        if name.contains('/') {
            said = said.replace(name, "_");
        }
    }
    said
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
    (
        &["denied", "unauthorized", "authentication required", "no basic auth credentials", "http 403", "forbidden"],
        "pull-denied",
    ),
    (&["no matching manifest"], "wrong-platform"),
    (&["not found", "manifest unknown", "name unknown", "invalid reference", "http 404"], "image-not-found"),
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
            "toomanyrequests",
            "too many requests",
            "http 429",
        ],
        "registry-unreachable",
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
            Error::ContainerMissing => "container missing",
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
        assert_eq!(reason(answered(404, "No such container: c").on_start()), "container missing");
    }

    #[test]
    fn errors_of_pulling_are_told_apart() {
        let cases = [
            (404, "manifest for a:1 not found: manifest unknown: manifest unknown", "image-not-found"),
            (404, "pull access denied for a, repository does not exist or may require 'docker login'", "pull-denied"),
            (500, "Head \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials", "pull-denied"),
            (500, "error parsing HTTP 403 response body: invalid character 'h' looking for beginning", "pull-denied"),
            (500, "error parsing HTTP 404 response body: invalid character 'h' looking for", "image-not-found"),
            (500, "error parsing HTTP 429 response body: invalid character 'h' looking for", "registry-unreachable"),
            (500, "received unexpected HTTP status: 503 Service Unavailable", "registry-unreachable"),
            (404, "manifest for r.example/denied-tls/eof:1 not found: manifest unknown", "image-not-found"),
            (404, "no such thing as r.example/denied-tls/eof", "image-not-found"),
            (500, "what is r.example/denied-tls/eof", "image-pull-failed"),
            (500, "Get \"https://r.example/v2/denied-tls/eof/manifests/1\": what is this", "image-pull-failed"),
            (
                500,
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "registry-unreachable",
            ),
            (500, "Get \"https://r.example/v2/\": dial tcp: lookup r.example: no such host", "registry-unreachable"),
            (500, "failed to register layer: write /x: no space left on device", "disk-full"),
            (500, "unauthorized: authentication required", "pull-denied"),
            (404, "no matching manifest for linux/amd64 in the manifest list entries", "wrong-platform"),
            (500, "what is this", "image-pull-failed"),
        ];
        for (status, message, expected) in cases {
            assert_eq!(reason(answered(status, message).on_pull("r.example/denied-tls/eof:1")), expected, "{message}");
        }
        assert_eq!(reason(answered(404, "No such image: a:1").on_create()), "missing");
    }
}
