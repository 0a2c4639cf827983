//! Log lines: to standard error, as text or as JSON, an object a line.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::{Error, Ring};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Logs {
    /// A level, or directives such as `goat_manager=debug`.
    pub level: String,
    /// Directives that hold where `level` says nothing else.
    pub quiet: &'static str,
    pub format: LogFormat,
    /// Keeps the last lines as well.
    pub ring: Option<Ring>,
}

impl Logs {
    pub(crate) fn layer<S>(&self) -> Result<Box<dyn Layer<S> + Send + Sync>, Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let filter = EnvFilter::try_new(format!("{}{}", self.quiet, self.level))
            .map_err(|error| Error::Level { level: self.level.clone(), problem: error.to_string() })?;
        let lines = fmt::layer().with_target(false).with_writer(std::io::stderr);
        let lines = match self.format {
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        };
        let kept = self.ring.as_ref().map(Ring::layer);
        Ok(lines.and_then(kept).with_filter(filter).boxed())
    }
}
