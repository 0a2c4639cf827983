//! What a running program shows of itself: whether it lives and can serve, its metrics, its last log lines. Knows neither
//! managers nor workers: they say what there is to show.
//!
//! | module | what |
//! | --- | --- |
//! | [`pages`] | `/healthz`, `/readyz`, `/metrics` over plain HTTP |
//! | [`metric`] | a metric's name and meaning, and how its value gets onto the page |
//! | [`process`] | what the system says of this process |
//! | [`logs`] | where log lines go |
//! | [`ring`] | the last log lines, in memory |
//! | [`traces`] | what single requests led to, for a collector |
//!
//! No global state: whoever has something to show hands it over.
#![forbid(unsafe_code)]

pub mod logs;
pub mod metric;
pub mod pages;
pub mod process;
pub mod ring;
pub mod traces;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use logs::{LogFormat, Logs};
pub use metric::{Kind, Metric, Sheet};
pub use pages::{Readiness, Site};
pub use ring::Ring;
pub use traces::{Traces, Tracing};

/// Why log lines or traces cannot be had as they are wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "log_level: {level:?} is neither a level (error, warn, info, debug, trace) nor a list of them by target: {problem}"
    )]
    Level { level: String, problem: String },
    #[error("otlp_endpoint: {endpoint:?} cannot be used: {problem}; write it as http://HOST:4317")]
    Endpoint { endpoint: String, problem: String },
    #[error("something else in this process takes log lines already")]
    Taken,
}

/// Sets the process's log lines and traces up, once, inside of the runtime.
///
/// # Errors
/// See [`Error`].
pub fn start(logs: Option<&Logs>, traces: Option<&Traces>) -> Result<Tracing, Error> {
    let lines = logs.map(Logs::layer).transpose()?;
    let (spans, tracing) = traces::layer(traces)?;
    tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(|_| Error::Taken)?;
    Ok(tracing)
}
