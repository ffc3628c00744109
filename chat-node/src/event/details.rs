//! What events tell beside their text. Stored as JSON, and in frames under the same names.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Role, Seq, User};

/// An event of the same room. Both parts must fit, so that a reference never leads to another history's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reference {
    /// Its position.
    pub seq: Seq,
    /// Its id.
    pub event: Uuid,
}

/// Who changed something, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mark {
    /// Who.
    pub sender: User,
    /// When, in milliseconds since 1970 UTC.
    pub time: i64,
    /// The event that tells of it.
    pub seq: Seq,
}

/// What an event tells beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Details {
    /// Of a message: what it replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reference>,
    /// Of a message: whom it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<User>,
    /// Of a message: its text is that of a later edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<Mark>,
    /// Of a message: its text is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Mark>,
    /// The message that is edited, deleted or reacted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Reference>,
    /// The reaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaction: Option<String>,
    /// Whom it happened to, by the sender's doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// That user's role now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// When it ends by itself, in milliseconds since 1970 UTC; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

impl Details {
    /// In the form that events carry: most have none, and shall not pay for them.
    pub fn boxed(self) -> Option<Box<Details>> {
        (self != Details::default()).then(|| Box::new(self))
    }

    /// As they are stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("details encode")
    }

    /// As they were stored. What a newer version of the node adds is left out.
    pub fn from_json(json: &str) -> Option<Box<Details>> {
        serde_json::from_str::<Details>(json).ok().and_then(Details::boxed)
    }
}
