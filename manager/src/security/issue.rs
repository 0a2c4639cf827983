//! Signs certificates with the authority in the replicated state: any manager can.

use std::time::{Duration, SystemTime};

use goat_core::model::ClusterId;
use goat_core::state::Security;
use goat_tls::credentials::Request;
use goat_tls::{Authority, Credentials, Error, Role, Subject, Validity};

use crate::clock;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Members renew by themselves; a user has to be there for it.
const fn lasting(role: Role) -> Duration {
    match role {
        Role::Manager | Role::Worker => Duration::from_secs(DAY.as_secs() * 90),
        Role::Client => Duration::from_secs(DAY.as_secs() * 365),
    }
}

/// A certificate and the authorities to believe, PEM both.
#[derive(Debug)]
pub struct Issued {
    pub certificate: String,
    pub authorities: String,
}

/// When a certificate for that role ends that is signed now (Unix ms).
pub fn expires_at_ms(role: Role) -> u64 {
    let lasting = u64::try_from(lasting(role).as_millis()).unwrap_or(u64::MAX);
    clock::now_ms().saturating_add(lasting)
}

/// Signs a request (PKCS #10, DER) for that role and id.
pub fn sign(security: &Security, cluster: ClusterId, request: &[u8], role: Role, id: &str) -> Result<Issued, Error> {
    let signer = security.signer();
    let authority = Authority::from_pem(&signer.certificate, signer.key.expose())?;
    let subject = Subject { role, id: id.to_owned(), cluster: cluster.to_string() };
    let validity = Validity::lasting(SystemTime::now(), lasting(role));
    let certificate = authority.sign(request, &subject, validity)?;
    Ok(Issued { certificate, authorities: security.believed() })
}

/// New credentials, with a new key.
pub fn issue(security: &Security, cluster: ClusterId, role: Role, id: &str) -> Result<Credentials, Error> {
    let request = Request::new()?;
    let issued = sign(security, cluster, request.as_bytes(), role, id)?;
    request.answered(&issued.certificate, &issued.authorities)
}

/// What members' credentials should rest on now.
pub fn wanted_stance(security: &Security) -> Result<String, Error> {
    goat_tls::credentials::stance_of(&security.signer().certificate, &security.believed())
}
