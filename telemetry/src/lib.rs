//! What the programs tell of themselves while they run: log lines, and traces of single requests. Knows no cluster, no RPC
//! and no options; each program passes in what its own say.
#![forbid(unsafe_code)]

pub mod logs;
pub mod traces;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use logs::{Format, Logs};
pub use traces::{Traces, Tracing};

/// Why nothing can be told.
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

/// Sets the process up, once. Traces are sent only where there is somewhere to send them; call it inside of the runtime then.
///
/// # Errors
/// See [`Error`].
pub fn start(logs: Option<&Logs>, traces: Option<&Traces>) -> Result<Tracing, Error> {
    let lines = logs.map(Logs::layer).transpose()?;
    let (spans, tracing) = traces::layer(traces)?;
    tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(|_| Error::Taken)?;
    Ok(tracing)
}
