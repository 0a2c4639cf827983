//! Where log lines go: to standard error, as text or as JSON lines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Error, LogFormat};

/// Sets the process's logging up, once.
pub fn init(level: &str, format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::try_new(level).map_err(|error| Error::Invalid {
        key: "log_level",
        problem: format!("{level:?} is neither a level (error, warn, info, debug, trace) nor a filter: {error}"),
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let result = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    result.map_err(|error| Error::Invalid { key: "log_level", problem: error.to_string() })
}
