//! What each operation takes and gives, and what it fails for besides what any may.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::{
    super::{
        accounts, announcements, bots, changes, cursors, idempotency::IDEMPOTENCY_KEY, me, messages, problem::Reason,
        rooms, sessions,
    },
    NO_CONTROL,
};
use crate::protocol::{AnnouncementFrame, Code, RoomFrame};

/// What an operation takes and gives.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) open: bool,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Schema>,
    pub(super) answers: Vec<(u16, &'static str, Option<Schema>)>,
    pub(super) reasons: Vec<Reason>,
}

impl Shape {
    /// Needs no token.
    fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Has a room in its path.
    fn at_room(self) -> Self {
        self.at("room")
    }

    /// Has the id of such a thing in its path.
    fn at(mut self, what: &str) -> Self {
        self.parameters.push(json!({
            "name": what, "in": "path", "required": true, "description": format!("The {what}'s id."),
            "schema": {"type": "string", "format": "uuid"},
        }));
        self.reasons.push(Reason::BadRequest);
        self
    }

    /// Has a message in its path, and its event id behind it.
    fn at_message(mut self, g: &mut SchemaGenerator) -> Self {
        self.parameters.push(json!({
            "name": "seq", "in": "path", "required": true, "description": "The message's position in the room.",
            "schema": {"type": "integer", "format": "int64"},
        }));
        self.query::<changes::Target>(g).fails(&[Code::NotAMember, Code::UnknownEvent])
    }

    /// Has a reaction in its path.
    fn at_reaction(mut self) -> Self {
        self.parameters.push(json!({
            "name": "reaction", "in": "path", "required": true, "description": "The reaction: at most 64 bytes.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": NO_CONTROL},
        }));
        self.fails(&[Code::BadReaction])
    }

    /// Has a user in its path.
    fn at_user(mut self) -> Self {
        self.parameters.push(json!({
            "name": "user", "in": "path", "required": true, "description": "The user's name: at most 128 bytes.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": NO_CONTROL},
        }));
        // Of a name that nobody can have.
        self.fails(&[Code::UnknownUser])
    }

    /// Changes a room, if the caller's role allows it.
    fn changes(self, what: &'static str, g: &mut SchemaGenerator) -> Self {
        self.gives::<changes::Changed>(200, what, g).fails(&[Code::NotAMember, Code::NotAllowed])
    }

    /// Has the name of such a thing in its path.
    fn at_name(mut self, what: &str) -> Self {
        self.parameters.push(json!({
            "name": what, "in": "path", "required": true, "description": format!("The {what}'s name."),
            "schema": {"type": "string", "minLength": 1, "pattern": NO_CONTROL},
        }));
        self.reasons.push(Reason::BadRequest);
        self
    }

    /// Takes the fields of `T` as parameters after `?`.
    fn query<T: JsonSchema>(mut self, generator: &mut SchemaGenerator) -> Self {
        let schema = T::json_schema(generator).to_value();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|property| property.remove("description"));
            // An absent parameter is absent: there is no null in a query.
            if let Some(types) = property["type"].as_array() {
                let kind = types.iter().find(|kind| *kind != "null").cloned();
                property["type"] = kind.unwrap_or_default();
            }
            let mut parameter = json!({"name": name, "in": "query", "description": description, "schema": property});
            if schema["required"].as_array().is_some_and(|required| required.contains(&json!(name))) {
                parameter["required"] = true.into();
            }
            self.parameters.push(parameter);
        }
        self.reasons.push(Reason::BadRequest);
        self
    }

    /// Can be repeated under a key.
    fn keyed(mut self, what: &str) -> Self {
        self.parameters.push(json!({
            "name": IDEMPOTENCY_KEY, "in": "header", "description": format!("Names the {what}, so that it can be repeated. Best a UUID."),
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
        }));
        self
    }

    fn body<T: JsonSchema>(mut self, generator: &mut SchemaGenerator) -> Self {
        self.body = Some(generator.subschema_for::<T>());
        self.reasons.extend([Reason::BadRequest, Reason::TooLarge, Reason::NotJson, Reason::SlowRequest]);
        self
    }

    fn gives<T: JsonSchema>(mut self, status: u16, what: &'static str, generator: &mut SchemaGenerator) -> Self {
        self.answers.push((status, what, Some(generator.subschema_for::<T>())));
        self
    }

    fn gives_nothing(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, None));
        self
    }

    /// Fails for these reasons, besides those that follow from its shape.
    fn fails(mut self, codes: &[Code]) -> Self {
        self.reasons.extend(codes.iter().copied().map(Reason::Protocol));
        self
    }

    fn fails_for(mut self, reasons: &[Reason]) -> Self {
        self.reasons.extend(reasons);
        self
    }
}

/// The shape of each operation, by its id.
pub(super) fn shape(id: &str, g: &mut SchemaGenerator) -> Shape {
    let shape = Shape::default();
    match id {
        "register" => shape
            .open()
            .body::<accounts::Credentials>(g)
            .gives::<accounts::Registered>(201, "The account is there.", g)
            .fails_for(&[Reason::BadUsername, Reason::BadPassword, Reason::UsernameTaken, Reason::AccountsOff]),
        "login" => shape
            .open()
            .body::<accounts::Credentials>(g)
            .gives::<sessions::SignedIn>(200, "The tokens.", g)
            .fails_for(&[Reason::BadCredentials, Reason::AccountsOff, Reason::TooManyAttempts]),
        "refresh" => shape
            .open()
            .body::<sessions::Refresh>(g)
            .gives::<sessions::SignedIn>(200, "The tokens.", g)
            .fails_for(&[Reason::BadRefreshToken, Reason::AccountsOff]),
        "sessions" => shape.gives::<sessions::Sessions>(200, "The sessions, those that were seen last first.", g),
        "signOut" => {
            shape.at("session").gives_nothing(204, "The session is over.").fails_for(&[Reason::UnknownSession])
        }
        "signOutEverywhere" => shape.gives_nothing(204, "All of your sessions are over."),
        "me" => shape.gives::<me::Me>(200, "The caller.", g),
        "changePassword" => shape
            .body::<accounts::NewPassword>(g)
            .gives_nothing(204, "The password is the new one.")
            .fails_for(&[Reason::BadPassword, Reason::WrongPassword, Reason::AccountsOff, Reason::TooManyAttempts]),
        "rooms" => shape.query::<rooms::RoomsPage>(g).gives::<rooms::Rooms>(200, "A page of rooms.", g),
        "createRoom" => shape.body::<rooms::NewRoom>(g).gives::<RoomFrame>(201, "The room.", g).fails(&[
            Code::BadName,
            Code::RoomExists,
            Code::TooManyRooms,
        ]),
        "room" => shape.at_room().gives::<RoomFrame>(200, "The room.", g).fails(&[Code::NotAMember]),
        "members" => shape
            .at_room()
            .query::<rooms::MembersPage>(g)
            .gives::<rooms::Members>(200, "A page of members.", g)
            .fails(&[Code::NotAMember]),
        "join" => shape.at_room().gives::<RoomFrame>(200, "The room.", g).fails(&[
            Code::UnknownRoom,
            Code::Banned,
            Code::RoomFull,
            Code::TooManyRooms,
        ]),
        "leave" => shape
            .at_room()
            .gives_nothing(204, "You are a member no more.")
            .fails(&[Code::NotAMember, Code::UnknownRoom]),
        "history" => shape
            .at_room()
            .query::<messages::HistoryPage>(g)
            .gives::<messages::History>(200, "A page of events.", g)
            .fails(&[Code::NotAMember]),
        "send" => shape
            .at_room()
            .keyed("send")
            .body::<messages::NewMessage>(g)
            .gives::<messages::Sent>(201, "The message has its place in the room.", g)
            .gives::<messages::Sent>(202, "The message is durable; its place comes later.", g)
            .fails(&[
                Code::NotAMember,
                Code::Muted,
                Code::EmptyText,
                Code::TextTooLong,
                Code::BadText,
                Code::TooManyMentions,
                Code::UnknownUser,
                Code::UnknownEvent,
                Code::OutboxForgotten,
                Code::TooFast,
            ]),
        "invite" => shape.at_room().at_user().changes("That user is a member.", g).fails(&[
            Code::Banned,
            Code::RoomFull,
            Code::TooManyRooms,
        ]),
        "kick" => shape.at_room().at_user().changes("That user is a member no more.", g).fails(&[Code::UnknownMember]),
        "setRole" => shape
            .at_room()
            .at_user()
            .body::<changes::NewRole>(g)
            .changes("That member has the role.", g)
            .fails(&[Code::UnknownMember]),
        "ban" => shape
            .at_room()
            .at_user()
            .body::<changes::Term>(g)
            .changes("That user is banned.", g)
            .fails(&[Code::BadDuration]),
        "unban" => shape.at_room().at_user().changes("That user may come back.", g),
        "mute" => shape
            .at_room()
            .at_user()
            .body::<changes::Term>(g)
            .changes("That member is muted.", g)
            .fails(&[Code::UnknownMember, Code::BadDuration]),
        "unmute" => shape.at_room().at_user().changes("That member may write.", g).fails(&[Code::UnknownMember]),
        "setTopic" => shape.at_room().body::<changes::NewTopic>(g).changes("The room is about that.", g).fails(&[
            Code::Muted,
            Code::TextTooLong,
            Code::BadText,
        ]),
        "edit" => shape
            .at_room()
            .at_message(g)
            .body::<changes::NewText>(g)
            .changes("The message has that text.", g)
            .fails(&[Code::Muted, Code::EmptyText, Code::TextTooLong, Code::BadText]),
        "delete" => shape.at_room().at_message(g).changes("The message has no text.", g),
        "react" => shape
            .at_room()
            .at_message(g)
            .at_reaction()
            .changes("The message has that reaction.", g)
            .fails(&[Code::Muted, Code::TooManyReactions]),
        "unreact" => shape
            .at_room()
            .at_message(g)
            .at_reaction()
            .changes("The message does not have that reaction of yours.", g)
            .fails(&[Code::Muted]),
        "read" => shape
            .at_room()
            .body::<cursors::Position>(g)
            .gives::<cursors::Position>(200, "Where the cursor is now.", g)
            .fails(&[Code::NotAMember]),
        "unread" => shape.gives::<cursors::UnreadRooms>(200, "What is not read.", g),
        "direct" => shape
            .body::<rooms::Other>(g)
            .gives::<RoomFrame>(200, "The room.", g)
            .fails(&[Code::UnknownUser, Code::TooManyRooms]),
        "createBot" => shape
            .body::<bots::NewBot>(g)
            .gives::<bots::Bot>(201, "The bot is there.", g)
            .fails_for(&[Reason::BadUsername, Reason::UsernameTaken]),
        "bots" => shape.query::<bots::BotsPage>(g).gives::<bots::Bots>(200, "A page of bots.", g),
        "deleteBot" => shape.at_name("bot").gives_nothing(204, "The bot is no more.").fails_for(&[Reason::UnknownBot]),
        "giveToken" => shape
            .at_name("bot")
            .body::<bots::NewToken>(g)
            .gives::<bots::GivenToken>(201, "The token, which is told this once.", g)
            .fails_for(&[Reason::UnknownBot, Reason::TooManyTokens]),
        "tokens" => shape.at_name("bot").gives::<bots::Tokens>(200, "The tokens that are good.", g),
        "endToken" => shape
            .at_name("bot")
            .at("token")
            .gives_nothing(204, "The token opens nothing any more.")
            .fails_for(&[Reason::UnknownToken]),
        "announce" => shape
            .keyed("announcement")
            .body::<announcements::NewAnnouncement>(g)
            .gives::<AnnouncementFrame>(201, "It is told.", g)
            .fails(&[Code::EmptyText, Code::TextTooLong, Code::BadText, Code::BadDuration])
            .fails_for(&[Reason::TooManyAnnouncements]),
        "announcements" => shape.query::<announcements::AnnouncementsPage>(g).gives::<announcements::Announcements>(
            200,
            "A page of announcements.",
            g,
        ),
        "endAnnouncement" => {
            shape.at("announcement").gives_nothing(204, "It is over.").fails_for(&[Reason::UnknownAnnouncement])
        }
        "directory" => shape.query::<rooms::DirectoryPage>(g).gives::<rooms::Directory>(200, "A page of rooms.", g),
        other => panic!("the operation {other} has no shape"),
    }
}
