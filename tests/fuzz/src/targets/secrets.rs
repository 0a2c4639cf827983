//! Join tokens, credentials and signing requests: what strangers bring.

use std::time::{Duration, SystemTime};

use goat_tls::credentials::Request;
use goat_tls::{Authority, Credentials, JoinToken, Role, Subject, Validity};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn authority() -> Authority {
    Authority::new("0123456789ab", now()).expect("an authority can be made")
}

fn subject() -> Subject {
    Subject { role: Role::Worker, id: "0123456789ab".into(), cluster: "0123456789ab".into() }
}

pub(super) fn token_samples() -> Vec<Vec<u8>> {
    let secret = goat_tls::token::new_secret().expect("there is chance");
    let texts = [Role::Manager, Role::Worker].map(|role| {
        let token = JoinToken::new(role, authority().digest(), secret.clone());
        token.expose().into_bytes()
    });
    texts.into()
}

pub(super) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.expose().parse().expect("it was one before");
        assert_eq!(again.expose(), token.expose());
    }
}

pub(super) fn request_samples() -> Vec<Vec<u8>> {
    vec![Request::new().expect("a key can be made").as_bytes().to_vec()]
}

/// Nothing is signed that is not asked for with the key that it is for.
pub(super) fn request(bytes: &[u8]) {
    thread_local! {
        static AUTHORITY: Authority = authority();
    }
    let validity = Validity::lasting(now(), Duration::from_secs(3_600));
    AUTHORITY.with(|authority| drop(authority.sign(bytes, &subject(), validity)));
}

pub(super) fn credentials_samples() -> Vec<Vec<u8>> {
    let authority = authority();
    let request = Request::new().expect("a key can be made");
    let validity = Validity::lasting(now(), Duration::from_secs(3_600));
    let certificate = authority.sign(request.as_bytes(), &subject(), validity).expect("it is signed");
    let credentials = request.answered(&certificate, authority.certificate()).expect("they fit");
    vec![credentials.to_pem().into_bytes(), authority.certificate().as_bytes().to_vec()]
}

pub(super) fn credentials(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(credentials) = Credentials::from_pem(text) {
        let again = Credentials::from_pem(&credentials.to_pem()).expect("they were some before");
        assert_eq!(again.stance(), credentials.stance());
    }
    let _ = goat_tls::credentials::digests(text);
}
