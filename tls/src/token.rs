//! Join tokens: `goat1-ROLE-DIGEST-SECRET`. The digest is of the authority's certificate, so a newcomer knows whom it
//! may tell the secret; the secret shows that it was invited.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

use crate::Error;
use crate::authority::{fingerprint, random};
use crate::subject::Role;

const MAX_FILE_BYTES: u64 = 4 << 10;
const PREFIX: &str = "goat1";
/// Of a SHA-256 digest in base 32.
const DIGEST_DIGITS: usize = 52;
/// 128 bits in base 32.
const SECRET_DIGITS: usize = 26;

/// An invitation to join as a manager or a worker.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub role: Role,
    /// Of the authority's certificate.
    pub authority: String,
    secret: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("role", &self.role)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    pub const fn new(role: Role, authority: String, secret: String) -> Self {
        Self { role, authority, secret }
    }

    /// The whole token, as it is handed over.
    pub fn expose(&self) -> String {
        format!("{PREFIX}-{}-{}-{}", self.role, self.authority, self.secret)
    }

    /// What the managers compare.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

/// A token from the first line of a file; `-` is standard input.
pub fn read_file(path: &Path) -> Result<JoinToken, Error> {
    let file = |source| Error::File { path: path.to_owned(), source };
    let text = match path.as_os_str() == "-" {
        true => io::read_to_string(io::stdin().take(MAX_FILE_BYTES)).map_err(file)?,
        false => {
            let opened = std::fs::File::open(path).map_err(file)?;
            io::read_to_string(opened.take(MAX_FILE_BYTES)).map_err(file)?
        }
    };
    text.lines().next().unwrap_or_default().parse()
}

/// A new secret for tokens.
pub fn new_secret() -> Result<String, Error> {
    Ok(fingerprint(&random::<16>()?))
}

/// Whether two secrets are the same; how long that takes says nothing of where they differ.
pub fn is_same_secret(one: &str, other: &str) -> bool {
    digest(&SHA256, one.as_bytes()).as_ref() == digest(&SHA256, other.as_bytes()).as_ref()
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |problem: String| Error::malformed("the join token", problem + HOW);
        let parts: Vec<&str> = text.trim().split('-').collect();
        let [prefix, role, authority, secret] = parts[..] else {
            return Err(wrong(format!("it has {} parts where 4 are expected", parts.len())));
        };
        if prefix != PREFIX {
            return Err(wrong(format!("it does not begin with {PREFIX}")));
        }
        let role = match role.parse()? {
            Role::Client => return Err(wrong("clients do not join".into())),
            role => role,
        };
        for (what, part, digits) in [("digest", authority, DIGEST_DIGITS), ("secret", secret, SECRET_DIGITS)] {
            let is_digit = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
            if part.len() != digits || !part.bytes().all(is_digit) {
                let problem = if part.len() < digits { "is cut short" } else { "is not one" };
                return Err(wrong(format!("its {what} {problem}")));
            }
        }
        Ok(Self { role, authority: authority.into(), secret: secret.into() })
    }
}

const HOW: &str = "; copy the whole line that `goatctl cluster join-token` prints";

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new(Role::Worker, fingerprint(&[7; 32]), new_secret().expect("random"))
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = token();
        assert_eq!(token.expose().parse::<JoinToken>().expect("its own text"), token);
        assert_eq!(format!(" {}\n", token.expose()).parse::<JoinToken>().expect("with blanks around"), token);
    }

    #[test]
    fn every_shortened_token_is_refused() {
        let text = token().expose();
        for end in 0..text.len() {
            let error = text[..end].parse::<JoinToken>().expect_err("it is cut short").to_string();
            assert!(!error.contains(&text[text.len() - SECRET_DIGITS..]), "{error}");
        }
    }

    #[test]
    fn a_token_for_a_client_and_one_with_other_digits_are_refused() {
        let text = token().expose();
        assert!(text.replace("worker", "client").parse::<JoinToken>().is_err());
        assert!(text.replace("worker", "king").parse::<JoinToken>().is_err());
        assert!(text.to_ascii_uppercase().parse::<JoinToken>().is_err());
        assert!(format!("{text}a").parse::<JoinToken>().is_err());
    }

    #[test]
    fn the_secret_is_not_in_what_is_printed_for_debugging() {
        let token = token();
        assert!(!format!("{token:?}").contains(token.secret()));
    }
}
