//! Where managers are: the list given with `-H` or GOAT_ADDR.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use tonic::transport::Uri;

pub const DEFAULT_PORT: u16 = 7700;

/// One manager's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// HOST:PORT, as it is shown.
    authority: String,
    uri: Uri,
}

impl Address {
    /// Whether nobody else can listen in.
    pub fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    pub fn uri(&self) -> Uri {
        self.uri.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// At least one address, none twice, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<Address>);

impl FromStr for Addresses {
    type Err = String;

    /// A blank list is the default: an environment variable that is set to nothing is as good as none.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut found: Vec<Address> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let address = address(part)?;
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            found.push(address("127.0.0.1")?);
        }
        Ok(Self(found))
    }
}

fn address(text: &str) -> Result<Address, String> {
    let wrong = |why: &str| {
        format!("{text:?} is not an address ({why}): [http://]HOST[:PORT] is expected, as in 10.0.0.1:7700")
    };
    // What encrypts is not chosen by the address, so both are as good as none.
    let bare =
        text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text).trim_end_matches('/');
    if bare.contains("://") || bare.contains(['/', '@', '?', '#']) {
        return Err(wrong("only a host and a port belong in it"));
    }
    // An IPv6 address without a port needs its brackets, or its last group would be taken for one.
    let has_port = match bare.rfind(':') {
        None => false,
        Some(at) => {
            !bare.ends_with(']') && bare.get(..at).is_some_and(|host| !host.contains(':') || host.ends_with(']'))
        }
    };
    let authority = match has_port {
        true => bare.to_owned(),
        false if bare.contains(':') && !bare.starts_with('[') => format!("[{bare}]:{DEFAULT_PORT}"),
        false => format!("{bare}:{DEFAULT_PORT}"),
    };
    let uri: Uri = format!("http://{authority}").parse().map_err(|_| wrong("the host is malformed"))?;
    match (uri.host(), uri.port_u16()) {
        (None | Some(""), _) => Err(wrong("the host is missing")),
        (_, None | Some(0)) => Err(wrong("the port is not a number from 1 to 65535")),
        _ => Ok(Address { authority, uri }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let addresses: Addresses = text.parse().expect(text);
        addresses.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_completed_and_named_once() {
        assert_eq!(shown("127.0.0.1"), ["127.0.0.1:7700"]);
        assert_eq!(shown("http://m1:7701/, m2 ,m1:7701"), ["m1:7701", "m2:7700"]);
        assert_eq!(shown("[::1]:7700,[::1],::1"), ["[::1]:7700"]);
        assert_eq!(shown("  "), ["127.0.0.1:7700"]);
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in ["ftp://m1", "m1:99999", "m1:", "m1:x", ":7700", "m 1", "m1/path", "u@m1"] {
            let error = text.parse::<Addresses>().expect_err(text);
            assert!(error.contains("as in 10.0.0.1:7700"), "{text}: {error}");
        }
    }
}
