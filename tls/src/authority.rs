//! The cluster's certificate authority.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::Error;
use crate::credentials::pem;
use crate::subject::{Role, Subject};

/// A request is some hundred bytes.
pub const MAX_REQUEST_BYTES: usize = 8 << 10;
const AUTHORITY_YEARS: u64 = 20;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Certificates begin so long ago: clocks that are late by less understand them at once.
const BACKDATED: Duration = Duration::from_secs(2 * 3_600);

/// From when to when (Unix seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

impl Validity {
    /// From a little before `now` until `lasting` after it.
    pub fn lasting(now: SystemTime, lasting: Duration) -> Self {
        let now = unix_s(now);
        Self { not_before: now.saturating_sub(BACKDATED.as_secs()), not_after: now + lasting.as_secs() }
    }

    fn apply(self, params: &mut CertificateParams) -> Result<(), Error> {
        params.not_before = moment(self.not_before)?;
        params.not_after = moment(self.not_after)?;
        Ok(())
    }
}

pub(crate) fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn moment(seconds: u64) -> Result<time::OffsetDateTime, Error> {
    let seconds = i64::try_from(seconds).map_err(|_| Error::malformed("a time", "it is too far away"))?;
    time::OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| Error::malformed("a time", error))
}

/// Signs certificates. Its private key is in the replicated state of the managers, and nowhere else.
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one for a cluster.
    pub fn new(cluster: &str, now: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, cluster);
        // Two authorities of one cluster have different names, so that it is clear who signed what.
        name.push(
            DnType::CommonName,
            format!("goat-ca-{}", &fingerprint(digest(&SHA256, key.der_bytes()).as_ref())[..12]),
        );
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        Validity::lasting(now, YEAR * AUTHORITY_YEARS as u32).apply(&mut params)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), der: certificate.der().clone(), key })
    }

    /// From what [`Authority::certificate`] and [`Authority::key`] gave; both may be in one text, the key first.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| Error::malformed("the authority's certificate", format!("{error:?}")))?;
        let key = KeyPair::from_pem(key).map_err(|error| Error::malformed("the authority's key", error))?;
        Ok(Self { certificate: pem(&der), der, key })
    }

    /// PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// PEM. Not to be seen.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Of its certificate, as in tokens.
    pub fn digest(&self) -> String {
        fingerprint(digest(&SHA256, &self.der).as_ref())
    }

    /// Signs a request for `subject`, whatever name the request itself gives: only its public key counts. The answer
    /// is the certificate, followed by the authority's (PEM).
    pub fn sign(&self, request: &[u8], subject: &Subject, validity: Validity) -> Result<String, Error> {
        if request.len() > MAX_REQUEST_BYTES {
            return Err(Error::malformed("the certificate request", format!("it has {} bytes", request.len())));
        }
        let mut request = CertificateSigningRequestParams::from_der(&request.into())
            .map_err(|error| Error::malformed("the certificate request", error))?;
        let mut params = CertificateParams::new(vec![subject.role.host().to_owned()])?;
        params.distinguished_name = subject.name();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match subject.role {
            Role::Manager | Role::Worker => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        validity.apply(&mut params)?;
        request.params = params;
        let issuer = Issuer::from_ca_cert_der(&self.der, &self.key)?;
        Ok(request.signed_by(&issuer)?.pem() + &self.certificate)
    }
}

/// Lower-case base 32 of a digest.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The digest of an authority's certificate, as in tokens.
pub(crate) fn digest_of(certificate: &CertificateDer<'_>) -> String {
    fingerprint(digest(&SHA256, certificate).as_ref())
}

/// 16 random bytes, not negative.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes: [u8; 16] = random()?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

/// From the system's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Error::Make("the system gives no random numbers".into()))?;
    Ok(bytes)
}
