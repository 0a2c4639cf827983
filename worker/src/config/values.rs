//! Values of options that are more than one word: sizes, lengths of time, labels.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use goat_core::model::Driver;
use serde::{Deserialize, Deserializer};

/// What can run tasks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeName {
    Docker,
    Process,
}

impl From<RuntimeName> for Driver {
    fn from(name: RuntimeName) -> Self {
        match name {
            RuntimeName::Docker => Self::Docker,
            RuntimeName::Process => Self::Process,
        }
    }
}

/// A number of bytes: plain, or with a unit as in `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| {
            format!("{text:?} is not a size: a number of bytes is expected, or one with a unit as in 8GiB")
        })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(bytes) => Ok(Self(bytes)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// `KEY=VALUE,KEY=VALUE`; a table in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
            _ => Err(format!("{part:?} is not a label: KEY=VALUE is expected")),
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// A length of time with its unit, as in `60s` or `1h 30m`; at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = humantime::parse_duration(text).ok().filter(|span| *span >= Duration::from_secs(1));
        span.map(Self).ok_or_else(|| format!("{text:?} is not a length of time of a second or more, as in 60s or 30m"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A [`Span`], or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanOrNever(pub Option<Duration>);

impl FromStr for SpanOrNever {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        let span: Span = text.parse().map_err(|problem| format!("{problem}; or never"))?;
        Ok(Self(Some(span.0)))
    }
}

impl<'de> Deserialize<'de> for SpanOrNever {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The watchdog and the supervisors have the path too, and another working directory.
pub(super) fn absolute(data_dir: PathBuf) -> Result<PathBuf, super::Error> {
    let named = |error: std::io::Error| super::Error::Invalid { key: "data_dir", problem: error.to_string() };
    std::path::absolute(data_dir).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_directory_is_one_below_the_working_directory() {
        let dir = absolute("data/w".into()).expect("there is a working directory");
        assert_eq!(dir, std::env::current_dir().expect("there is one").join("data/w"));
    }
}
