//! Which version of Docker's API is spoken, and that it is named in every request.
//!
//! ```text
//! daemon's oldest ── daemon's newest          what it tells in /version, which is asked for without a version
//!        MIN ──────────────── MAX             what this runtime can speak
//! spoken: the newest that both have; none: the daemon cannot be used, and the error says why
//! ```
//! bollard 0.21.1 leaves the version out of every path, so that the daemon speaks its newest; a later bollard may name the one
//! that it was made with. Neither is asked here. The version is negotiated whenever the daemon's events begin to be watched, and so
//! when a daemon comes back as another release; until then it refuses what has the wrong version, and that is taken for a
//! daemon that is away ([`is_version_refused`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bollard::models::SystemVersion;
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::Uri;
use parking_lot::Mutex;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(usize, usize);

/// The oldest that has what is used here: Docker 20.10.
pub(super) const MIN: Version = Version(1, 41);
/// The newest that is known here: the one that bollard's types are made of.
const MAX: Version = Version(bollard::API_DEFAULT_VERSION.major_version, bollard::API_DEFAULT_VERSION.minor_version);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self(major.parse().map_err(drop)?, minor.parse().map_err(drop)?))
    }
}

/// The version that is spoken with one daemon; `None` until it was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Negotiated(Arc<Mutex<Option<Version>>>);

impl Negotiated {
    /// Takes the newest version that both sides have. Returns what is wrong if there is none.
    pub(super) fn negotiate(&self, daemon: &SystemVersion) -> Result<(), String> {
        let chosen = choose(daemon.api_version.as_deref(), daemon.min_api_version.as_deref())?;
        *self.0.lock() = Some(chosen);
        Ok(())
    }

    /// A client whose requests name the negotiated version.
    pub(super) fn client(&self, socket: &str, timeout_s: u64) -> Result<Docker, bollard::errors::Error> {
        let version = ClientVersion { major_version: MIN.0, minor_version: MIN.1 };
        let negotiated = self.clone();
        let client = Docker::connect_with_unix(socket, timeout_s, &version)?;
        Ok(client.with_request_modifier(move |request| named(request, *negotiated.0.lock())))
    }
}

fn choose(newest: Option<&str>, oldest: Option<&str>) -> Result<Version, String> {
    let text = newest.unwrap_or_default();
    let Ok(newest) = text.parse::<Version>() else {
        return Err(format!("tells {text:?} as the version of its API; {MIN} or newer is needed (Docker 20.10)"));
    };
    if newest < MIN {
        return Err(format!("has API {newest}; {MIN} or newer is needed (Docker 20.10)"));
    }
    // Docker did not always tell it.
    match oldest.and_then(|oldest| oldest.parse::<Version>().ok()) {
        Some(oldest) if oldest > MAX => {
            Err(format!("has API {oldest} and newer, and this worker knows {MIN} to {MAX}: upgrade the worker"))
        }
        _ => Ok(newest.min(MAX)),
    }
}

/// The request with the version in its path, or without any: what finds the version out must not name one.
fn named(mut request: BollardRequest, version: Option<Version>) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    if let Ok(path) = path_of(path, version).parse() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn path_of(path: &str, version: Option<Version>) -> String {
    let bare = without_version(path);
    let asks_for_version = ["/version", "/_ping"].contains(&bare);
    match version.filter(|_| !asks_for_version) {
        Some(version) => format!("/v{version}{bare}"),
        None => bare.to_owned(),
    }
}

fn without_version(path: &str) -> &str {
    let is_version = |text: &str| text.strip_prefix('v').is_some_and(|text| text.parse::<Version>().is_ok());
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((first, rest)) if is_version(first) => &path[path.len() - rest.len() - 1..],
        _ => path,
    }
}

/// Whether that is the daemon's refusal of a version: too old, or, of a daemon that was downgraded, too new. The words are
/// moby's (`daemon/server/middleware/version.go`); nothing was done.
pub(super) fn is_version_refused(status: u16, message: &str) -> bool {
    status == 400
        && message.starts_with("client version ")
        && (message.contains(" is too old. Minimum supported API version is ")
            || message.contains(" is too new. Maximum supported API version is "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_sides_have_is_spoken() {
        let cases = [
            ("1.41", Some("1.12"), Ok(MIN)),
            ("1.52", Some("1.44"), Ok(Version(1, 52))),
            ("1.47", None, Ok(Version(1, 47))),
            ("1.99", Some("1.44"), Ok(MAX)),
            ("1.40", Some("1.12"), Err("has API 1.40; 1.41 or newer is needed")),
            ("1.99", Some("1.90"), Err("upgrade the worker")),
            ("2.0", Some("2.0"), Err("upgrade the worker")),
            ("", None, Err("tells \"\"")),
        ];
        for (newest, oldest, expected) in cases {
            match (choose(Some(newest), oldest), expected) {
                (Ok(chosen), Ok(expected)) => assert_eq!(chosen, expected, "{newest}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{newest}: {error}"),
                (chosen, expected) => panic!("{newest}: {chosen:?}, and not {expected:?}"),
            }
        }
    }

    #[test]
    fn every_request_names_the_version_once_but_those_that_find_it_out() {
        let version = Some(Version(1, 44));
        assert_eq!(path_of("/containers/json?all=true", version), "/v1.44/containers/json?all=true");
        assert_eq!(path_of("/v1.41/containers/json", version), "/v1.44/containers/json", "of a bollard that names one");
        assert_eq!(path_of("/version", version), "/version");
        assert_eq!(path_of("/v1.53/version", version), "/version");
        assert_eq!(path_of("/_ping", version), "/_ping");
        assert_eq!(path_of("/v1.53/info", None), "/info");
        assert_eq!(path_of("/volumes/v1.5/x", version), "/v1.44/volumes/v1.5/x");
    }

    #[test]
    fn a_refused_version_is_told_from_other_refusals() {
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a \
                   newer version";
        assert!(is_version_refused(400, old));
        assert!(is_version_refused(400, "client version 1.52 is too new. Maximum supported API version is 1.41"));
        assert!(!is_version_refused(500, old));
        assert!(!is_version_refused(400, "invalid reference format"));
    }
}
