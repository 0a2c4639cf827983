//! Conversions between the wire's messages and core's types. What is absent on the wire gets its default here; whether
//! a value is sensible is core's `validate`, never decided here.
//!
//! Into core is fallible (`TryFrom`, an [`Error`] that names the field); out of core is not (`From`).

mod health;
mod rows;
mod spec;
mod words;
mod worker;

use std::fmt;
use std::str::FromStr;

use goat_core::model::Resources;

use crate::v1;

pub use rows::{assigned_spec, assignment, node, service, task};
pub use spec::DEFAULT_STOP_GRACE_MS;
pub use words::Word;
pub use worker::cut;

/// The field `field` of a message cannot be what its sender meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Error {
    /// As in the `.proto` file, with the path to it: `ports[1].protocol`.
    pub field: String,
    pub problem: String,
}

impl Error {
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Reads one of a fixed vocabulary's words. The error names the words that are allowed.
pub fn word<W: Word>(field: &str, text: &str) -> Result<W, Error> {
    let found = W::ALL.iter().copied().find(|word| word.word() == text);
    found.ok_or_else(|| {
        let allowed: Vec<&str> = W::ALL.iter().map(|word| word.word()).collect();
        Error::new(field, format!("{:?} is not one of {}", shortened(text), allowed.join(", ")))
    })
}

/// As [`word`], and the empty text is `default`.
pub fn word_or<W: Word>(field: &str, text: &str, default: W) -> Result<W, Error> {
    if text.is_empty() { Ok(default) } else { word(field, text) }
}

/// Reads an id of core's, or anything else whose error explains itself.
pub fn parse<T: FromStr<Err: fmt::Display>>(field: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| Error::new(field, error.to_string()))
}

/// Absence is the empty text on the wire.
fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn port(field: impl Into<String>, number: u32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| Error::new(field, format!("{number} is not a port: at most 65535")))
}

impl From<v1::Resources> for Resources {
    fn from(wire: v1::Resources) -> Self {
        Self { cpu_millis: wire.cpu_millis, memory_bytes: wire.memory_bytes, disk_bytes: wire.disk_bytes }
    }
}

impl From<Resources> for v1::Resources {
    fn from(core: Resources) -> Self {
        Self { cpu_millis: core.cpu_millis, memory_bytes: core.memory_bytes, disk_bytes: core.disk_bytes }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{Availability, TaskId};

    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_field_and_the_words_that_are_known() {
        let error = word::<Availability>("availability", "paused").unwrap_err();
        assert_eq!(error.to_string(), "availability: \"paused\" is not one of active, drain");
        let status = tonic::Status::from(error);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn an_id_that_is_none_names_its_field() {
        let error = parse::<TaskId>("task_id", "x").unwrap_err();
        assert!(error.to_string().starts_with("task_id: \"x\" is not an id"), "{error}");
    }
}
