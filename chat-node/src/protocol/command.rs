//! What a user asks to have changed in a room: the requests that enter its log beside messages, the same over WebSocket and REST.

use serde::Deserialize;
use uuid::Uuid;

use super::Code;
use crate::event::{OWN_USERS, Reference, Role};

/// Bytes of a reaction: room for the longest emoji, or a short name.
const REACTION_BYTES_MAX: usize = 64;

/// Bytes of a room's topic.
const TOPIC_BYTES_MAX: usize = 1_024;

/// Bytes of a user's name, as in `docs/protocol.md`.
const USER_BYTES_MAX: usize = 128;

/// Seconds that a ban, a mute or an announcement may be limited to: a hundred years.
pub const SANCTION_SECONDS_MAX: u64 = 100 * 365 * 24 * 60 * 60;

/// A change of a room. See `docs/protocol.md` §3.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md §3 says what each field means")]
pub enum Command {
    Edit { room: Uuid, target: Reference, text: String },
    Delete { room: Uuid, target: Reference },
    React { room: Uuid, target: Reference, reaction: String },
    Unreact { room: Uuid, target: Reference, reaction: String },
    SetTopic { room: Uuid, topic: String },
    Invite { room: Uuid, user: String },
    Kick { room: Uuid, user: String },
    Ban { room: Uuid, user: String, seconds: Option<u64> },
    Unban { room: Uuid, user: String },
    Mute { room: Uuid, user: String, seconds: Option<u64> },
    Unmute { room: Uuid, user: String },
    SetRole { room: Uuid, user: String, role: Role },
}

impl Command {
    /// The `type` of each command.
    pub const NAMES: [&str; 12] = [
        "edit",
        "delete",
        "react",
        "unreact",
        "set_topic",
        "invite",
        "kick",
        "ban",
        "unban",
        "mute",
        "unmute",
        "set_role",
    ];

    /// The room that is to be changed.
    pub fn room(&self) -> Uuid {
        match self {
            Command::Edit { room, .. }
            | Command::Delete { room, .. }
            | Command::React { room, .. }
            | Command::Unreact { room, .. }
            | Command::SetTopic { room, .. }
            | Command::Invite { room, .. }
            | Command::Kick { room, .. }
            | Command::Ban { room, .. }
            | Command::Unban { room, .. }
            | Command::Mute { room, .. }
            | Command::Unmute { room, .. }
            | Command::SetRole { room, .. } => *room,
        }
    }

    /// Whether it can be carried out at all, whatever the room is like.
    ///
    /// # Errors
    /// The code that says what to do instead.
    pub fn check(&self, text_bytes_max: usize) -> Result<(), Code> {
        match self {
            Command::Edit { text, .. } => check_text(text, text_bytes_max),
            Command::React { reaction, .. } | Command::Unreact { reaction, .. } => check_reaction(reaction),
            Command::SetTopic { topic, .. } if topic.contains('\0') => Err(Code::BadText),
            Command::SetTopic { topic, .. } if topic.len() > TOPIC_BYTES_MAX => Err(Code::TextTooLong),
            Command::Invite { user, .. } => check_guest(user),
            Command::Kick { user, .. }
            | Command::Unban { user, .. }
            | Command::Unmute { user, .. }
            | Command::SetRole { user, .. } => check_user(user),
            Command::Ban { user, seconds, .. } | Command::Mute { user, seconds, .. } => {
                check_seconds(*seconds)?;
                check_user(user)
            }
            Command::Delete { .. } | Command::SetTopic { .. } => Ok(()),
        }
    }
}

/// Whether a message may say this.
///
/// # Errors
/// The code that says what to do instead.
pub fn check_text(text: &str, bytes_max: usize) -> Result<(), Code> {
    if text.len() > bytes_max {
        Err(Code::TextTooLong)
    } else if text.contains('\0') {
        Err(Code::BadText)
    } else if text.trim().is_empty() {
        Err(Code::EmptyText)
    } else {
        Ok(())
    }
}

/// Whether something can hold for so long.
pub(super) fn check_seconds(seconds: Option<u64>) -> Result<(), Code> {
    let in_bounds = seconds.is_none_or(|seconds| (1..=SANCTION_SECONDS_MAX).contains(&seconds));
    if in_bounds { Ok(()) } else { Err(Code::BadDuration) }
}

fn check_reaction(reaction: &str) -> Result<(), Code> {
    let shows = !reaction.chars().any(|c| c.is_control() || c.is_whitespace());
    if shows && (1..=REACTION_BYTES_MAX).contains(&reaction.len()) { Ok(()) } else { Err(Code::BadReaction) }
}

/// Whether somebody can have this name at all.
///
/// # Errors
/// When it cannot be stored.
pub fn check_user(user: &str) -> Result<(), Code> {
    let possible = (1..=USER_BYTES_MAX).contains(&user.len()) && !user.contains('\0');
    if possible { Ok(()) } else { Err(Code::UnknownUser) }
}

/// Whether somebody of this name can be invited, or talked to.
///
/// # Errors
/// When it cannot be stored, or is one of the nodes' own.
pub fn check_guest(user: &str) -> Result<(), Code> {
    check_user(user)?;
    if user.starts_with(OWN_USERS) { Err(Code::UnknownUser) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Uuid = Uuid::from_u128(7);

    #[track_caller]
    fn check(command: serde_json::Value, expected: Result<(), Code>) {
        let mut command = command;
        command["room"] = serde_json::json!(ROOM);
        let command: Command = serde_json::from_value(command).unwrap();
        assert_eq!(command.room(), ROOM);
        assert_eq!(command.check(10), expected, "{command:?}");
    }

    #[test]
    fn commands_that_make_no_sense_are_told_apart() {
        use serde_json::json;
        let target = json!({"seq": 3, "event": Uuid::from_u128(9)});
        check(json!({"type": "edit", "target": target, "text": "fine"}), Ok(()));
        check(json!({"type": "edit", "target": target, "text": " "}), Err(Code::EmptyText));
        check(json!({"type": "edit", "target": target, "text": "12345678901"}), Err(Code::TextTooLong));
        check(json!({"type": "edit", "target": target, "text": "a\0"}), Err(Code::BadText));
        check(json!({"type": "delete", "target": target}), Ok(()));
        check(json!({"type": "react", "target": target, "reaction": "\u{1f44d}\u{1f3fd}"}), Ok(()));
        for bad in ["", " ", "a b", "\n", &"x".repeat(65)] {
            check(json!({"type": "react", "target": target, "reaction": bad}), Err(Code::BadReaction));
            check(json!({"type": "unreact", "target": target, "reaction": bad}), Err(Code::BadReaction));
        }
        check(json!({"type": "set_topic", "topic": ""}), Ok(()));
        check(json!({"type": "set_topic", "topic": "x".repeat(1_025)}), Err(Code::TextTooLong));
        check(json!({"type": "set_topic", "topic": "\0"}), Err(Code::BadText));
        for name in ["invite", "kick", "ban", "unban", "mute", "unmute"] {
            check(json!({"type": name, "user": "bob"}), Ok(()));
            check(json!({"type": name, "user": "x".repeat(129)}), Err(Code::UnknownUser));
        }
        check(json!({"type": "invite", "user": "self-test/sender"}), Err(Code::UnknownUser));
        check(json!({"type": "kick", "user": "self-test/sender"}), Ok(()));
        check(json!({"type": "set_role", "user": "", "role": "owner"}), Err(Code::UnknownUser));
        for name in ["ban", "mute"] {
            check(json!({"type": name, "user": "bob", "seconds": 60}), Ok(()));
            check(json!({"type": name, "user": "bob", "seconds": 0}), Err(Code::BadDuration));
            check(json!({"type": name, "user": "bob", "seconds": u64::MAX}), Err(Code::BadDuration));
        }
    }

    #[test]
    fn every_name_is_a_commands_and_every_commands_is_named() {
        for name in Command::NAMES {
            let error = serde_json::from_value::<Command>(serde_json::json!({"type": name})).unwrap_err().to_string();
            assert!(error.contains("missing field"), "{name}: {error}");
        }
        let error = serde_json::from_value::<Command>(serde_json::json!({"type": "dance"})).unwrap_err().to_string();
        assert_eq!(error.matches('`').count(), 2 * (Command::NAMES.len() + 1), "{error}");
    }
}
