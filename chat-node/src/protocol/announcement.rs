//! What is told to everybody who is online: the same over WebSocket and REST.

use serde::Serialize;
use uuid::Uuid;

use super::{Code, check_text, command::check_seconds};
use crate::store::Announcement;

/// Bytes of an announcement's text: whoever connects is told of all that are in force.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 2_048;

/// Whether this can be announced, for so many seconds.
///
/// # Errors
/// The code that says what to do instead.
pub fn check_announcement(text: &str, seconds: Option<u64>) -> Result<(), Code> {
    check_text(text, ANNOUNCEMENT_BYTES_MAX)?;
    check_seconds(seconds)
}

/// An announcement, as everybody sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Announcement"))]
pub struct AnnouncementFrame {
    /// Its id.
    id: Uuid,
    /// What is said.
    text: String,
    /// Who says it.
    sender: String,
    /// When it was said, in milliseconds since 1970 UTC.
    time: i64,
    /// When it is over by itself; absent when somebody has to end it.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl AnnouncementFrame {
    /// The announcement as it is told.
    pub fn new(announcement: &Announcement) -> Self {
        let Announcement { id, sender, text, time_ms, until_ms } = announcement;
        AnnouncementFrame { id: *id, text: text.clone(), sender: sender.to_string(), time: *time_ms, until: *until_ms }
    }
}
