//! What can be said of a request by looking at it alone.

use crate::{
    auth::Scope,
    protocol::{ClientFrame, Command},
};

/// What a request needs, apart from a send, whose refusal uses its number up.
pub(super) fn scope(frame: &ClientFrame) -> Option<Scope> {
    match frame {
        ClientFrame::CreateRoom { .. }
        | ClientFrame::Join { .. }
        | ClientFrame::Leave { .. }
        | ClientFrame::Direct { .. } => Some(Scope::Rooms),
        ClientFrame::Command { command, .. } => Some(match command {
            Command::Edit { .. } | Command::Delete { .. } | Command::React { .. } | Command::Unreact { .. } => {
                Scope::Send
            }
            Command::SetTopic { .. }
            | Command::Invite { .. }
            | Command::Kick { .. }
            | Command::Ban { .. }
            | Command::Unban { .. }
            | Command::Mute { .. }
            | Command::Unmute { .. }
            | Command::SetRole { .. } => Scope::Rooms,
        }),
        ClientFrame::Hello(_)
        | ClientFrame::Signal(_)
        | ClientFrame::Read { .. }
        | ClientFrame::Unread { .. }
        | ClientFrame::Seen { .. }
        | ClientFrame::Send { .. }
        | ClientFrame::History { .. }
        | ClientFrame::Members { .. }
        | ClientFrame::Token { .. }
        | ClientFrame::Ping { .. } => None,
    }
}

pub(super) fn frame_id(frame: &ClientFrame) -> Option<u64> {
    match frame {
        ClientFrame::Hello(hello) => hello.id,
        ClientFrame::Signal(signal) => signal.id(),
        ClientFrame::CreateRoom { id, .. }
        | ClientFrame::Join { id, .. }
        | ClientFrame::Leave { id, .. }
        | ClientFrame::Direct { id, .. }
        | ClientFrame::Send { id, .. }
        | ClientFrame::History { id, .. }
        | ClientFrame::Members { id, .. }
        | ClientFrame::Command { id, .. }
        | ClientFrame::Read { id, .. }
        | ClientFrame::Unread { id }
        | ClientFrame::Seen { id, .. }
        | ClientFrame::Token { id, .. }
        | ClientFrame::Ping { id } => *id,
    }
}

pub(super) fn is_room_name(name: &str) -> bool {
    const CHARACTERS_MAX: usize = 80;
    name.chars().count() <= CHARACTERS_MAX && !name.trim().is_empty() && !name.chars().any(char::is_control)
}
