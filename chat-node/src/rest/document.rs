//! The OpenAPI document, made from the operations and the types that they take and give.
//!
//! Made by a test, so that the program carries the finished text and nothing that makes it: `make generate` writes it, and without
//! that the test says when it is stale.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    accounts, bots, me, messages,
    operations::{OPERATIONS, Operation},
    problem::{ProblemDocument, Reason},
    rooms, sessions,
};
use crate::protocol::{Code, RoomFrame};

/// A text without control characters.
pub(super) const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// Likewise, with at least one character that shows: one that is not white space (Unicode's `White_Space`).
pub(super) const LINE: &str = concat!(
    r"^[^\u0000-\u001f\u007f-\u009f]*",
    r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000-\u001f\u007f-\u009f]*$",
);
/// A text without NUL, with at least one character that shows.
pub(super) const TEXT: &str = concat!(
    r"^[^\u0000]*",
    r"[^\u0000\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000]*$",
);

/// What an operation takes and gives.
#[derive(Default)]
struct Shape {
    open: bool,
    parameters: Vec<Value>,
    body: Option<Schema>,
    answers: Vec<(u16, &'static str, Option<Schema>)>,
    reasons: Vec<Reason>,
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
            self.parameters.push(json!({"name": name, "in": "query", "description": description, "schema": property}));
        }
        self.reasons.push(Reason::BadRequest);
        self
    }

    fn header(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({"name": name, "in": "header", "description": description, "schema": schema}));
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
fn shape(id: &str, g: &mut SchemaGenerator) -> Shape {
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
            .header(
                messages::IDEMPOTENCY_KEY,
                "Names the send, so that it can be repeated. Best a UUID.",
                json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"}),
            )
            .body::<messages::NewMessage>(g)
            .gives::<messages::Sent>(201, "The message has its place in the room.", g)
            .gives::<messages::Sent>(202, "The message is durable; its place comes later.", g)
            .fails(&[
                Code::NotAMember,
                Code::EmptyText,
                Code::TextTooLong,
                Code::BadText,
                Code::OutboxForgotten,
                Code::TooFast,
            ]),
        "direct" => shape
            .body::<rooms::Other>(g)
            .gives::<RoomFrame>(200, "The room.", g)
            .fails(&[Code::UnknownUser, Code::TooManyRooms]),
        "createBot" => shape
            .body::<bots::NewBot>(g)
            .gives::<bots::Bot>(201, "The bot is there.", g)
            .fails_for(&[Reason::BadUsername, Reason::UsernameTaken]),
        "bots" => shape.query::<bots::BotsPage>(g).gives::<bots::Bots>(200, "A page of bots.", g),
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
        "directory" => shape.query::<rooms::DirectoryPage>(g).gives::<rooms::Directory>(200, "A page of rooms.", g),
        other => panic!("the operation {other} has no shape"),
    }
}

/// Reasons that any operation may fail for.
fn general(open: bool) -> Vec<Reason> {
    let mut reasons = [Code::Overloaded, Code::Unavailable, Code::Internal].map(Reason::Protocol).to_vec();
    reasons.push(Reason::TooManyRequests);
    if !open {
        reasons.extend([Code::BadToken, Code::TokenExpired, Code::Forbidden].map(Reason::Protocol));
    }
    reasons
}

fn operation(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let Shape { open, parameters, body, answers, mut reasons } = shape(operation.id, generator);
    reasons.extend(general(open));
    let mut responses = Map::new();
    for (status, what, schema) in answers {
        let mut answer = json!({"description": what});
        if let Some(schema) = schema {
            answer["content"] = json!({"application/json": {"schema": schema}});
        }
        responses.insert(status.to_string(), answer);
    }
    let problem = generator.subschema_for::<ProblemDocument<'static>>();
    for reason in reasons {
        let (status, code, detail) = reason.parts();
        let problem = json!({"application/problem+json": {"schema": problem}});
        let answer = responses
            .entry(status.as_u16().to_string())
            .or_insert_with(|| json!({"description": "", "content": problem}));
        let line = format!("`{code}`: {detail}.");
        let said = answer["description"].as_str().unwrap_or_default();
        if !said.contains(&line) {
            answer["description"] = [said, &line].join("\n").trim().into();
        }
    }
    responses.sort_keys();
    let mut made = json!({"operationId": operation.id, "summary": operation.summary, "responses": responses});
    if !parameters.is_empty() {
        made["parameters"] = parameters.into();
    }
    if let Some(schema) = body {
        made["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if open {
        made["security"] = json!([]);
    }
    made
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for one in &OPERATIONS {
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method.as_str().to_ascii_lowercase()] = operation(one, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chatcluster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything of a chat that is not live. What is live is a WebSocket: docs/protocol.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

#[test]
fn the_document_is_that_of_the_code() {
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("CHATCLUSTER_GENERATE").is_some() {
        std::fs::write("src/rest/openapi.json", &made).unwrap();
        return;
    }
    assert!(super::DOCUMENT == made, "chat-node/src/rest/openapi.json is stale: run `make generate`");
}

#[test]
fn every_operation_is_in_the_page() {
    let page = include_str!("../../../docs/rest.md");
    for operation in &OPERATIONS {
        let row = format!("| `{} {}` |", operation.method, operation.path);
        assert!(page.lines().any(|line| line.starts_with(&row)), "docs/rest.md has no row {row}");
    }
}
