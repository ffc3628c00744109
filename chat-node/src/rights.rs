//! Who may do what in a room: one table of kinds of room, roles and actions.
//!
//! Pure, and the only place that decides it: the session asks before it takes a send, the store asks under the room's lock.

use crate::event::{Role, RoomKind};

/// Something that a member may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a message.
    Send,
    /// Change the text of one's own message.
    EditOwn,
    /// Change the text of somebody else's message.
    EditOther,
    /// Delete one's own message.
    DeleteOwn,
    /// Delete somebody else's message.
    DeleteOther,
    /// React to a message, or take it back.
    React,
    /// Say what the room is about.
    SetTopic,
    /// Make somebody a member.
    Invite,
    /// End somebody's membership.
    Kick,
    /// End it for good, or lift that.
    Ban,
    /// Take somebody's word, or give it back.
    Mute,
    /// Give a role, the ownership too.
    SetRole,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 12] = [
        Action::Send,
        Action::EditOwn,
        Action::EditOther,
        Action::DeleteOwn,
        Action::DeleteOther,
        Action::React,
        Action::SetTopic,
        Action::Invite,
        Action::Kick,
        Action::Ban,
        Action::Mute,
        Action::SetRole,
    ];

    /// Whether it says something to the room, which whoever is muted may not.
    pub fn speaks(self) -> bool {
        matches!(self, Action::Send | Action::EditOwn | Action::React | Action::SetTopic)
    }
}

/// Whether a member of this role may do this in a room of this kind.
pub fn may(kind: RoomKind, role: Role, action: Action) -> bool {
    let least = match action {
        Action::Send | Action::EditOwn | Action::DeleteOwn | Action::React => Role::Member,
        // Nobody puts words into another's mouth.
        Action::EditOther => return false,
        // The two of a direct room are equals, and nobody else comes or goes.
        _ if kind == RoomKind::Direct => return false,
        // Anyone may join a public room, so anyone may bring somebody.
        Action::Invite if kind == RoomKind::Public => Role::Member,
        Action::DeleteOther | Action::SetTopic | Action::Invite | Action::Kick | Action::Ban | Action::Mute => {
            Role::Moderator
        }
        Action::SetRole => Role::Owner,
    };
    role >= least
}

/// Whether somebody of this role may act against somebody of that role: only downwards, so that moderators cannot turn on each
/// other.
pub fn outranks(actor: Role, other: Role) -> bool {
    actor > other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, written out: which of member, moderator and owner may, in a public, a private and a direct room.
    #[test]
    fn the_whole_table() {
        let everyone = "mMo mMo mMo";
        let table = [
            (Action::Send, everyone),
            (Action::EditOwn, everyone),
            (Action::EditOther, "--- --- ---"),
            (Action::DeleteOwn, everyone),
            (Action::DeleteOther, "-Mo -Mo ---"),
            (Action::React, everyone),
            (Action::SetTopic, "-Mo -Mo ---"),
            (Action::Invite, "mMo -Mo ---"),
            (Action::Kick, "-Mo -Mo ---"),
            (Action::Ban, "-Mo -Mo ---"),
            (Action::Mute, "-Mo -Mo ---"),
            (Action::SetRole, "--o --o ---"),
        ];
        assert_eq!(table.map(|(action, _)| action), Action::ALL);
        for (action, expected) in table {
            let of_kind = |kind| {
                let roles = [(Role::Member, 'm'), (Role::Moderator, 'M'), (Role::Owner, 'o')];
                roles
                    .map(|(role, letter)| if may(kind, role, action) { letter } else { '-' })
                    .iter()
                    .collect::<String>()
            };
            let told = [RoomKind::Public, RoomKind::Private, RoomKind::Direct].map(of_kind).join(" ");
            assert_eq!(told, expected, "{action:?}");
        }
    }

    #[test]
    fn power_reaches_only_downwards() {
        let roles = [Role::Member, Role::Moderator, Role::Owner];
        let reached = roles.map(|actor| roles.map(|other| outranks(actor, other)));
        assert_eq!(reached, [[false; 3], [true, false, false], [true, true, false]]);
    }

    #[test]
    fn whoever_is_muted_can_still_take_words_back() {
        let silenced: Vec<Action> = Action::ALL.into_iter().filter(|action| action.speaks()).collect();
        assert_eq!(silenced, [Action::Send, Action::EditOwn, Action::React, Action::SetTopic]);
    }
}
