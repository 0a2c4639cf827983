//! Ids as newtypes: 60 random bits, written as 12 characters of Crockford's base 32.
//!
//! Random rather than time-ordered because people type prefixes of them: ids made in one moment must not share their
//! leading digits. The numbers come from outside (`from_random`); this crate draws none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LEN: usize = 12;
const MASK: u64 = (1 << 60) - 1;

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: 12 characters of 0-9 and a-z without i, l, o, u are expected")]
pub struct ParseIdError {
    text: String,
}

fn encode(value: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(value >> (5 * (LEN - 1 - i)) & 31) as usize];
    }
    out
}

fn decode(text: &str) -> Result<u64, ParseIdError> {
    let error = || ParseIdError { text: text.chars().take(64).collect() };
    if text.len() != LEN {
        return Err(error());
    }
    text.bytes().try_fold(0, |value, byte| {
        let digit = DIGITS.iter().position(|d| *d == byte).ok_or_else(error)?;
        Ok(value << 5 | digit as u64)
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Takes the low 60 bits of a random number drawn by the caller.
            pub const fn from_random(bits: u64) -> Self {
                Self(bits & MASK)
            }

            /// All ids whose text begins so; None where none can.
            pub fn beginning_with(text: &str) -> Option<std::ops::RangeInclusive<Self>> {
                let bound = |digit: &str| decode(&format!("{text}{}", digit.repeat(LEN.checked_sub(text.len())?))).ok();
                Some(Self(bound("0")?)..=Self(bound("z")?))
            }

            /// The 60 bits.
            pub const fn bits(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(std::str::from_utf8(&encode(self.0)).expect("the digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    u64::deserialize(deserializer).map(Self::from_random)
                }
            }
        }
    };
}

id!(
    /// A cluster, made when its first manager starts.
    ClusterId
);
id!(
    /// A worker.
    NodeId
);
id!(
    /// A service.
    ServiceId
);
id!(
    /// One attempt to run one slot on one node.
    TaskId
);
id!(
    /// A client's name for one mutation, so that a retry is answered and not repeated.
    RequestId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        for bits in [0, 1, 31, 32, MASK, 0x0123_4567_89ab_cdef & MASK] {
            let id = TaskId::from_random(bits);
            assert_eq!(id.to_string().len(), LEN);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn ids_are_found_by_how_they_begin() {
        let id: TaskId = "0123456789ab".parse().expect("an id");
        for text in ["", "0", "0123456", "0123456789ab"] {
            assert!(TaskId::beginning_with(text).expect("a beginning").contains(&id), "{text}");
        }
        for text in ["1", "0124", "0123456789ac"] {
            assert!(!TaskId::beginning_with(text).expect("a beginning").contains(&id), "{text}");
        }
        for text in ["i", "0123456789abc", "é"] {
            assert_eq!(TaskId::beginning_with(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "abc", "iiiiiiiiiiii", "ABCDEFGHJKMN", "0123456789abc", "ééééé "] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
