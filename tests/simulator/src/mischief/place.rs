//! Where something happens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MAX_MANAGERS;

/// A machine of either kind, written `m0`, `w3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Place {
    Manager(usize),
    Worker(usize),
}

impl Place {
    /// One number for each.
    pub const fn index(self) -> usize {
        match self {
            Self::Manager(at) => at,
            Self::Worker(at) => MAX_MANAGERS + at,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(at) => write!(f, "m{at}"),
            Self::Worker(at) => write!(f, "w{at}"),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no machine: m0 or w0 are");
        let number = text.get(1..).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        match text.as_bytes()[0] {
            b'm' if number < MAX_MANAGERS => Ok(Self::Manager(number)),
            b'w' if number < 64 - MAX_MANAGERS => Ok(Self::Worker(number)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
