//! Whom a certificate names: role, id and cluster, in the fields OU, CN and O of its subject.

use std::fmt;
use std::str::FromStr;

use rcgen::{DistinguishedName, DnType};
use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::Error;

/// What a certificate lets its owner do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Manager,
    Worker,
    /// A user's: goatctl.
    Client,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Manager, Self::Worker, Self::Client];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
            Self::Client => "client",
        }
    }

    /// What TLS calls everybody of this role.
    pub(crate) const fn host(self) -> &'static str {
        match self {
            Self::Manager => "manager.goat",
            Self::Worker => "worker.goat",
            Self::Client => "client.goat",
        }
    }

    pub(crate) fn server_name(self) -> ServerName<'static> {
        ServerName::try_from(self.host()).expect("these are host names")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Error::malformed("a role", format!("{text:?} is none of manager, worker, client")))
    }
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub role: Role,
    /// A manager's number, a worker's node id, a client's name.
    pub id: String,
    /// The cluster's id.
    pub cluster: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of cluster {}", self.role, self.id, self.cluster)
    }
}

impl Subject {
    /// As a certificate's subject.
    pub(crate) fn name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, self.cluster.as_str());
        name.push(DnType::OrganizationalUnitName, self.role.as_str());
        name.push(DnType::CommonName, self.id.as_str());
        name
    }

    /// Of a certificate that has been verified already, or is one's own.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        let name = parsed.subject();
        Ok(Self {
            role: only(name.iter_organizational_unit().map(|part| part.as_str()), "role")?.parse()?,
            id: only(name.iter_common_name().map(|part| part.as_str()), "id")?,
            cluster: only(name.iter_organization().map(|part| part.as_str()), "cluster")?,
        })
    }
}

/// From when to when a certificate is valid (Unix seconds).
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(u64, u64), Error> {
    let parsed = parse(certificate)?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok((seconds(parsed.validity().not_before), seconds(parsed.validity().not_after)))
}

/// The name of who signed it, and its own name: raw, to be compared.
pub(crate) fn issuer_and_subject(certificate: &CertificateDer<'_>) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let parsed = parse(certificate)?;
    let raw = |name: &X509Name<'_>| name.as_raw().to_vec();
    Ok((raw(parsed.issuer()), raw(parsed.subject())))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| Error::malformed("a certificate", error))?;
    if !rest.is_empty() {
        return Err(Error::malformed("a certificate", "something follows it"));
    }
    Ok(parsed)
}

fn only<'a, E>(mut parts: impl Iterator<Item = Result<&'a str, E>>, what: &str) -> Result<String, Error> {
    match (parts.next(), parts.next()) {
        (Some(Ok(part)), None) => Ok(part.to_owned()),
        _ => Err(Error::malformed("a certificate", format!("its subject does not name one {what}"))),
    }
}
