//! Why a reconcile failed: the one error type at the edge, and the closed set of kinds that metrics count.

use kube::Error as KubeError;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was observed is no longer so. Nothing was harmed: observe again.
    #[error("{0} has changed meanwhile")]
    Conflict(String),
    /// The API server refused what was asked, and will refuse it again.
    #[error("the API server refuses {what}: {reason}")]
    Refused {
        /// Kind and name of the object.
        what: String,
        /// The API server's words.
        reason: String,
    },
    /// The API server could not be reached, or was not able to answer.
    #[error("the API server did not take {what}: {reason}")]
    Unavailable {
        /// Kind and name of the object.
        what: String,
        /// What happened.
        reason: String,
    },
    /// A reconcile took longer than it may.
    #[error("the reconcile took longer than {0} seconds")]
    Timeout(u64),
}

/// The kinds of [`Error`], as a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// [`Error::Conflict`]
    Conflict,
    /// [`Error::Refused`]
    Refused,
    /// [`Error::Unavailable`]
    Unavailable,
    /// [`Error::Timeout`]
    Timeout,
}

impl Error {
    /// Sorts what a client answered to a request about `what`.
    pub fn of(what: impl Into<String>, error: &KubeError) -> Self {
        let what = what.into();
        match error {
            KubeError::Api(status) if status.code == 409 => Error::Conflict(what),
            KubeError::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Error::Refused { what, reason: status.message.clone() }
            }
            KubeError::Api(status) => Error::Unavailable { what, reason: status.message.clone() },
            other => Error::Unavailable { what, reason: other.to_string() },
        }
    }

    /// The kind, for counting.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Conflict(_) => ErrorKind::Conflict,
            Error::Refused { .. } => ErrorKind::Refused,
            Error::Unavailable { .. } => ErrorKind::Unavailable,
            Error::Timeout(_) => ErrorKind::Timeout,
        }
    }
}

impl ErrorKind {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Conflict => "conflict",
            ErrorKind::Refused => "refused",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timeout",
        }
    }
}
