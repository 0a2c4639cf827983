//! What can go wrong with a test cluster, in words that say what to do.

use std::path::Path;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked for wrongly: nothing was changed. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was tried and did not work. Exit code 1.
    #[error("{0}")]
    Failed(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// A manager's final answer.
    #[error("{what}: {} ({:?})", .status.message(), .status.code())]
    Refused { what: &'static str, status: Box<tonic::Status> },
    #[error("docker: {what}: {source}")]
    Docker { what: &'static str, source: bollard::errors::Error },
}

impl Error {
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// For `map_err`: what was being done to which file.
    pub fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("cannot {verb} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// For `map_err` of calls to Docker.
    pub fn docker(what: &'static str) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |source| Self::Docker { what, source }
    }
}
