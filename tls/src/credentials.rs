//! One member's key, certificate and the authorities it believes: one PEM file, so that they always fit together.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;
use crate::authority::{digest_of, fingerprint, unix_s};
use crate::subject::{Subject, issuer_and_subject, validity};

/// A private key whose certificate is being asked for.
pub struct Request {
    key: KeyPair,
    request: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Request {
    /// With a new key.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        // Whoever signs it puts the name in.
        let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key, request })
    }

    /// What is to be signed: PKCS #10, DER.
    pub fn as_bytes(&self) -> &[u8] {
        &self.request
    }

    /// With the answer: the certificate, and those of all authorities to believe (PEM both).
    pub fn answered(self, certificate: &str, authorities: &str) -> Result<Credentials, Error> {
        let own = first_certificate(certificate)?;
        Credentials::from_pem(&format!("{}{}{authorities}", self.key.serialize_pem(), pem(&own)))
    }
}

/// A key, its certificate, and the authorities to believe.
pub struct Credentials {
    key: PrivateKeyDer<'static>,
    certificate: CertificateDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
    subject: Subject,
    /// Unix seconds.
    valid: (u64, u64),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("subject", &self.subject)
            .field("valid", &self.valid)
            .finish_non_exhaustive()
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone_key(),
            certificate: self.certificate.clone(),
            authorities: self.authorities.clone(),
            subject: self.subject.clone(),
            valid: self.valid,
        }
    }
}

impl Credentials {
    /// A private key, then one's own certificate, then the authorities'.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| Error::malformed("the private key", unreadable(&error)))?;
        let mut certificates = certificates(text)?.into_iter();
        let certificate = certificates
            .next()
            .ok_or_else(|| Error::malformed("the credentials", "there is no certificate in them"))?;
        let authorities: Vec<_> = certificates.collect();
        if authorities.is_empty() {
            return Err(Error::malformed("the credentials", "there is no authority's certificate in them"));
        }
        let subject = Subject::of(&certificate)?;
        let valid = validity(&certificate)?;
        Ok(Self { key, certificate, authorities, subject, valid })
    }

    /// As [`Credentials::from_pem`] takes it. Holds the private key.
    pub fn to_pem(&self) -> String {
        let mut text = encode("PRIVATE KEY", self.key.secret_der());
        text += &pem(&self.certificate);
        text + &self.authorities_pem()
    }

    /// The certificates of the authorities (PEM).
    pub fn authorities_pem(&self) -> String {
        self.authorities.iter().map(pem).collect()
    }

    /// Reads a file that [`Credentials::store`] wrote. Refuses one that others may read. None: there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let file = |source| Error::File { path: path.to_owned(), source };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file(error)),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let text = fs::read_to_string(path).map_err(file)?;
        Self::from_pem(&text).map(Some).map_err(|error| Error::File {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        })
    }

    /// Puts the file in place of an earlier one, synced, for its owner alone (mode 0600): after a crash it is the one
    /// or the other.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        write_secret(path, self.to_pem().as_bytes()).map_err(|source| Error::File { path: path.to_owned(), source })
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Unix seconds: the first and the last at which the certificate is valid.
    pub const fn valid(&self) -> (u64, u64) {
        self.valid
    }

    /// The digest of the authority that signed the certificate; None where it is not among those to believe.
    pub fn signed_by(&self) -> Option<String> {
        let (issuer, _) = issuer_and_subject(&self.certificate).ok()?;
        let is_issuer =
            |authority: &&CertificateDer<'_>| issuer_and_subject(authority).is_ok_and(|(_, subject)| subject == issuer);
        self.authorities.iter().find(is_issuer).map(digest_of)
    }

    /// The digests of the authorities to believe, sorted.
    pub fn believes(&self) -> Vec<String> {
        let mut digests: Vec<_> = self.authorities.iter().map(digest_of).collect();
        digests.sort();
        digests
    }

    /// Who signed the certificate and whom the member believes, as one word to compare.
    pub fn stance(&self) -> String {
        stance(&self.signed_by().unwrap_or_default(), &self.believes())
    }

    /// Whether it is time for a new certificate: a third of its life is left for that. One that is not valid yet was made while a
    /// clock was wrong, and is of no use.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let (now, (from, to)) = (unix_s(now), self.valid);
        now < from || now >= from + (to.saturating_sub(from)) / 3 * 2
    }

    /// The same key and certificate, and other authorities to believe (PEM).
    pub fn believing(&self, authorities: &str) -> Result<Self, Error> {
        let authorities = certificates(authorities)?;
        if authorities.is_empty() {
            return Err(Error::malformed("the authorities", "there is none"));
        }
        Ok(Self { authorities, ..self.clone() })
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// What is shown in a handshake: one's own certificate and then its signer's, by which newcomers know the cluster.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.certificate).chain(&self.authorities).cloned().collect()
    }

    pub(crate) fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }
}

/// The [`Credentials::stance`] of members whose certificate that authority signed and who believe those (PEM).
pub fn stance_of(signer: &str, authorities: &str) -> Result<String, Error> {
    let signer = digests(signer)?.pop().unwrap_or_default();
    Ok(stance(&signer, &digests(authorities)?))
}

fn stance(signer: &str, believed: &[String]) -> String {
    let text = format!("{signer} {}", believed.join(" "));
    fingerprint(&digest(&SHA256, text.as_bytes()).as_ref()[..10])
}

/// The digests of the authorities in a PEM text, sorted: as [`Credentials::believes`].
pub fn digests(authorities: &str) -> Result<Vec<String>, Error> {
    let mut digests: Vec<_> = certificates(authorities)?.iter().map(digest_of).collect();
    digests.sort();
    Ok(digests)
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::malformed("a certificate", unreadable(&error)))
}

fn unreadable(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "it ends too early, the file was cut short; make another copy of it".into()
        }
        other => other.to_string(),
    }
}

fn first_certificate(text: &str) -> Result<CertificateDer<'static>, Error> {
    certificates(text)?.into_iter().next().ok_or_else(|| Error::malformed("the certificate", "there is none"))
}

pub(crate) fn pem(certificate: &CertificateDer<'static>) -> String {
    encode("CERTIFICATE", certificate)
}

fn encode(label: &str, bytes: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text += std::str::from_utf8(line).expect("base 64 is ASCII");
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Writes a file for its owner alone (mode 0600) in place of an earlier one, synced with its directory.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}
