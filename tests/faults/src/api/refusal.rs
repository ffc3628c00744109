//! What the API server answers when it does not do what was asked (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>).

use serde_json::{Value, json};

/// A refusal: HTTP status, reason and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Reason in one word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// The object is not there.
    pub fn not_found(plural: &str, name: &str) -> Self {
        Refusal { code: 404, reason: "NotFound", message: format!("{plural} {name:?} not found") }
    }

    /// Something changed in between, or somebody else owns it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Refusal { code: 409, reason: "Conflict", message: message.into() }
    }

    /// Another has the name.
    pub fn already_exists(plural: &str, name: &str) -> Self {
        Refusal { code: 409, reason: "AlreadyExists", message: format!("{plural} {name:?} already exists") }
    }

    /// The object breaks a rule of its kind.
    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal { code: 422, reason: "Invalid", message: message.into() }
    }

    /// The version that a watch starts from is no longer kept.
    pub fn gone(version: u64) -> Self {
        Refusal { code: 410, reason: "Expired", message: format!("too old resource version: {version}") }
    }

    /// As sent.
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}
