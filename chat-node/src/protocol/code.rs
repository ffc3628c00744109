//! Error codes and close codes: the closed sets that clients and metrics rely on.

use serde::{Deserialize, Serialize};

use crate::auth::TokenError;

/// Why a request was refused. See `docs/protocol.md` §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not a frame of the protocol.
    BadFrame,
    /// Something came before `hello`.
    NotIdentified,
    /// A second `hello`.
    AlreadyIdentified,
    /// No token, or one that will never do.
    BadToken,
    /// A token that has expired.
    TokenExpired,
    /// The token, or the user's role, does not allow it.
    Forbidden,
    /// A message without a visible character.
    EmptyText,
    /// A message that is too long.
    TextTooLong,
    /// A text that cannot be stored.
    BadText,
    /// A room's name that is empty, too long or has control characters.
    BadName,
    /// A public room of that name exists.
    RoomExists,
    /// No such room.
    UnknownRoom,
    /// Nobody of that name was ever here.
    UnknownUser,
    /// The user is not a member of the room.
    NotAMember,
    /// The user's role in the room does not allow it.
    NotAllowed,
    /// The user may not write in the room.
    Muted,
    /// The user may not be in the room.
    Banned,
    /// No such message in the room, or it was deleted.
    UnknownEvent,
    /// A reaction that is empty, too long or would not show.
    BadReaction,
    /// A message has as many different reactions as it may.
    TooManyReactions,
    /// A message that names too many people.
    TooManyMentions,
    /// A ban or mute for no time, or for too long.
    BadDuration,
    /// Nobody of that name is a member of the room.
    UnknownMember,
    /// The connection watches as many rooms as it may.
    TooManyWatched,
    /// The room has as many members as it may.
    RoomFull,
    /// The user is in as many rooms as it may.
    TooManyRooms,
    /// A send without an outbox.
    OutboxMissing,
    /// A send whose number is beyond the next.
    OutboxGap,
    /// A repeated send whose result is not kept any more.
    OutboxForgotten,
    /// The user sends faster than is allowed.
    TooFast,
    /// Too much waits.
    Overloaded,
    /// The database cannot be reached.
    Unavailable,
    /// The server's fault.
    Internal,
}

impl Code {
    /// All codes.
    pub const ALL: [Code; 33] = [
        Code::BadFrame,
        Code::NotIdentified,
        Code::AlreadyIdentified,
        Code::BadToken,
        Code::TokenExpired,
        Code::Forbidden,
        Code::EmptyText,
        Code::TextTooLong,
        Code::BadText,
        Code::BadName,
        Code::RoomExists,
        Code::UnknownRoom,
        Code::UnknownUser,
        Code::NotAMember,
        Code::NotAllowed,
        Code::Muted,
        Code::Banned,
        Code::UnknownEvent,
        Code::BadReaction,
        Code::TooManyReactions,
        Code::TooManyMentions,
        Code::BadDuration,
        Code::UnknownMember,
        Code::TooManyWatched,
        Code::RoomFull,
        Code::TooManyRooms,
        Code::OutboxMissing,
        Code::OutboxGap,
        Code::OutboxForgotten,
        Code::TooFast,
        Code::Overloaded,
        Code::Unavailable,
        Code::Internal,
    ];

    /// The code as it stands in frames, in the store and in metrics.
    pub fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// A sentence for a person. It never repeats what the client sent.
    pub fn message(self) -> &'static str {
        self.parts().1
    }

    /// Whether the same request can succeed later. A refused send that is retryable has not used its number.
    pub fn retryable(self) -> bool {
        matches!(self, Code::OutboxGap | Code::TooFast | Code::Overloaded | Code::Unavailable | Code::Internal)
    }

    /// The code of a stored name.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == name)
    }

    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Code::BadFrame => ("bad_frame", "this is not a frame of the protocol"),
            Code::NotIdentified => ("not_identified", "say hello first"),
            Code::AlreadyIdentified => ("already_identified", "hello was already said on this connection"),
            Code::BadToken => ("bad_token", "the token is missing or cannot be accepted: log in again"),
            Code::TokenExpired => ("token_expired", "the token has expired: get a new one and connect again"),
            Code::Forbidden => ("forbidden", "your token does not allow this: use one with more scopes"),
            Code::EmptyText => ("empty_text", "the message has no text: write at least one character that shows"),
            Code::TextTooLong => ("text_too_long", "the text is too long: see limits.text_bytes in welcome"),
            Code::BadText => ("bad_text", "the text has a NUL character: leave it out"),
            Code::BadName => {
                ("bad_name", "a room's name has 1 to 80 characters, one that shows, and no control characters")
            }
            Code::RoomExists => ("room_exists", "a room of that name exists: join it, or choose another name"),
            Code::UnknownRoom => ("unknown_room", "there is no such room"),
            Code::UnknownUser => ("unknown_user", "nobody of that name has ever logged in here"),
            Code::NotAMember => ("not_a_member", "you are not a member of this room: join it first"),
            Code::NotAllowed => {
                ("not_allowed", "your role in this room does not allow that: ask a moderator or the owner")
            }
            Code::Muted => ("muted", "you may not write in this room now: see muted_until of the room"),
            Code::Banned => ("banned", "this user is banned from the room: a moderator can lift that"),
            Code::UnknownEvent => ("unknown_event", "the room has no such message, or it was deleted"),
            Code::BadReaction => ("bad_reaction", "a reaction has 1 to 64 bytes and no spaces or control characters"),
            Code::TooManyReactions => {
                ("too_many_reactions", "the message has as many reactions as it may: use one of them")
            }
            Code::TooManyMentions => {
                ("too_many_mentions", "the message names too many people: see limits.mentions in welcome")
            }
            Code::BadDuration => ("bad_duration", "seconds is at least 1: leave it out for no end"),
            Code::UnknownMember => ("unknown_member", "nobody of that name is a member of this room"),
            Code::TooManyWatched => {
                ("too_many_watched", "this connection watches as many rooms as it may: unwatch one first")
            }
            Code::RoomFull => ("room_full", "the room has as many members as it may have"),
            Code::TooManyRooms => ("too_many_rooms", "this user is in as many rooms as allowed"),
            Code::OutboxMissing => ("outbox_missing", "sending needs an outbox: give its id in hello"),
            Code::OutboxGap => ("outbox_gap", "the number is not the next of this outbox: go on from expected"),
            Code::OutboxForgotten => ("outbox_forgotten", "so old a send was taken, its result is not kept any more"),
            Code::TooFast => ("too_fast", "you send too fast: wait as long as is said, and send again from there"),
            Code::Overloaded => ("overloaded", "too much is waiting: send again a little later"),
            Code::Unavailable => ("unavailable", "the database cannot be reached: send again a little later"),
            Code::Internal => ("internal", "something went wrong in the server: send again a little later"),
        }
    }
}

impl From<TokenError> for Code {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Bad => Code::BadToken,
            TokenError::Expired => Code::TokenExpired,
            TokenError::Unavailable => Code::Unavailable,
        }
    }
}

/// Why the server closes a connection. See `docs/protocol.md` §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Nothing was heard for the idle time.
    Idle,
    /// A room's history was set back.
    HistoryChanged,
    /// The node leaves.
    Leaving,
    /// The node or the address has too many connections.
    TooMany,
    /// What the token or the user's rooms are checked against is away.
    Unavailable,
    /// No acceptable token.
    BadToken,
    /// The token has expired.
    TokenExpired,
    /// The session was ended.
    SignedOut,
    /// No `hello` in time.
    NoHello,
    /// The client reads too slowly.
    SlowConsumer,
    /// A frame that is larger than allowed.
    TooLarge,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [CloseReason; 11] = [
        CloseReason::Idle,
        CloseReason::HistoryChanged,
        CloseReason::Leaving,
        CloseReason::TooMany,
        CloseReason::Unavailable,
        CloseReason::BadToken,
        CloseReason::TokenExpired,
        CloseReason::SignedOut,
        CloseReason::NoHello,
        CloseReason::SlowConsumer,
        CloseReason::TooLarge,
    ];

    /// The status code of the close frame (RFC 6455 §7.4, or the private range from 4000).
    pub fn status(self) -> u16 {
        match self {
            CloseReason::Idle => 1001,
            CloseReason::TooLarge => 1009,
            CloseReason::HistoryChanged | CloseReason::Leaving => 1012,
            CloseReason::TooMany | CloseReason::Unavailable => 1013,
            CloseReason::BadToken | CloseReason::SignedOut => 4401,
            CloseReason::TokenExpired => 4402,
            CloseReason::NoHello => 4408,
            CloseReason::SlowConsumer => 4413,
        }
    }

    /// The reason in the close frame, and the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Idle => "idle",
            CloseReason::TooLarge => "frame_too_large",
            CloseReason::HistoryChanged => "history_changed",
            CloseReason::Leaving => "node_leaving",
            CloseReason::TooMany => "too_many_connections",
            CloseReason::Unavailable => "unavailable",
            CloseReason::BadToken => "bad_token",
            CloseReason::TokenExpired => "token_expired",
            CloseReason::SignedOut => "signed_out",
            CloseReason::NoHello => "no_hello",
            CloseReason::SlowConsumer => "slow_consumer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialized_ones_and_lead_back() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(Code::from_name(code.as_str()), Some(code));
        }
    }

    #[test]
    fn every_code_is_in_the_protocol_page() {
        let page = include_str!("../../../docs/protocol.md").split_once("\n## 7. Errors").unwrap().1;
        for code in Code::ALL {
            let row =
                page.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{}`", code.as_str())));
            let row = row.unwrap_or_else(|| panic!("docs/protocol.md has no row for {}", code.as_str()));
            let retryable = if code.retryable() { "| yes |" } else { "| no |" };
            assert!(row.contains(retryable), "{row}");
        }
    }
}
