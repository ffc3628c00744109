//! Every operation there is, in one table: what is served is what is documented.

use std::sync::Arc;

use axum::{
    http::Method,
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{Rest, accounts, announcements, bots, changes, cursors, me, messages, rooms, sessions};

/// Something that can be asked over REST.
#[cfg_attr(not(test), allow(dead_code, reason = "the document, which a test makes, tells all of it"))]
pub(super) struct Operation {
    /// Its name in the OpenAPI document.
    pub(super) id: &'static str,
    /// The method.
    pub(super) method: Method,
    /// The path below `/api/v1`; axum and OpenAPI write parameters alike.
    pub(super) path: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// What carries it out.
    pub(super) route: fn() -> MethodRouter<Arc<Rest>>,
}

/// All operations.
pub(super) const OPERATIONS: [Operation; 41] = [
    Operation {
        id: "register",
        method: Method::POST,
        path: "/accounts",
        summary: "Make an account.",
        route: || post(accounts::register),
    },
    Operation {
        id: "login",
        method: Method::POST,
        path: "/login",
        summary: "Get a token for an account.",
        route: || post(accounts::login),
    },
    Operation {
        id: "refresh",
        method: Method::POST,
        path: "/refresh",
        summary: "Get a new token, and a new refresh token, for a refresh token.",
        route: || post(sessions::refresh),
    },
    Operation {
        id: "sessions",
        method: Method::GET,
        path: "/sessions",
        summary: "Where you are signed in.",
        route: || get(sessions::mine),
    },
    Operation {
        id: "signOut",
        method: Method::DELETE,
        path: "/sessions/{session}",
        summary: "End one of your sessions.",
        route: || delete(sessions::end),
    },
    Operation {
        id: "signOutEverywhere",
        method: Method::DELETE,
        path: "/sessions",
        summary: "End all of your sessions, this one too.",
        route: || delete(sessions::end_all),
    },
    Operation {
        id: "me",
        method: Method::GET,
        path: "/me",
        summary: "Who the token names, and what is allowed.",
        route: || get(me::me),
    },
    Operation {
        id: "changePassword",
        method: Method::PUT,
        path: "/me/password",
        summary: "Change your password. All of your other sessions end.",
        route: || put(accounts::change_password),
    },
    Operation {
        id: "rooms",
        method: Method::GET,
        path: "/rooms",
        summary: "The rooms that you are a member of.",
        route: || get(rooms::mine),
    },
    Operation {
        id: "createRoom",
        method: Method::POST,
        path: "/rooms",
        summary: "Make a public or a private room, with you as its owner.",
        route: || post(rooms::create),
    },
    Operation {
        id: "room",
        method: Method::GET,
        path: "/rooms/{room}",
        summary: "One of your rooms.",
        route: || get(rooms::one),
    },
    Operation {
        id: "members",
        method: Method::GET,
        path: "/rooms/{room}/members",
        summary: "Who is in one of your rooms.",
        route: || get(rooms::members),
    },
    Operation {
        id: "join",
        method: Method::PUT,
        path: "/rooms/{room}/members/me",
        summary: "Become a member. A member stays one.",
        route: || put(rooms::join),
    },
    Operation {
        id: "leave",
        method: Method::DELETE,
        path: "/rooms/{room}/members/me",
        summary: "Be a member no more. Not for direct rooms.",
        route: || delete(rooms::leave),
    },
    Operation {
        id: "invite",
        method: Method::PUT,
        path: "/rooms/{room}/members/{user}",
        summary: "Make somebody a member.",
        route: || put(changes::invite),
    },
    Operation {
        id: "kick",
        method: Method::DELETE,
        path: "/rooms/{room}/members/{user}",
        summary: "End somebody's membership. That user may come back.",
        route: || delete(changes::kick),
    },
    Operation {
        id: "setRole",
        method: Method::PUT,
        path: "/rooms/{room}/members/{user}/role",
        summary: "Give a member a role.",
        route: || put(changes::set_role),
    },
    Operation {
        id: "ban",
        method: Method::PUT,
        path: "/rooms/{room}/bans/{user}",
        summary: "End somebody's membership, for so long.",
        route: || put(changes::ban),
    },
    Operation {
        id: "unban",
        method: Method::DELETE,
        path: "/rooms/{room}/bans/{user}",
        summary: "Let somebody come back.",
        route: || delete(changes::unban),
    },
    Operation {
        id: "mute",
        method: Method::PUT,
        path: "/rooms/{room}/mutes/{user}",
        summary: "Keep a member from writing, for so long.",
        route: || put(changes::mute),
    },
    Operation {
        id: "unmute",
        method: Method::DELETE,
        path: "/rooms/{room}/mutes/{user}",
        summary: "Let a member write again.",
        route: || delete(changes::unmute),
    },
    Operation {
        id: "setTopic",
        method: Method::PUT,
        path: "/rooms/{room}/topic",
        summary: "Say what the room is about.",
        route: || put(changes::set_topic),
    },
    Operation {
        id: "history",
        method: Method::GET,
        path: "/rooms/{room}/events",
        summary: "A page of a room's history.",
        route: || get(messages::history),
    },
    Operation {
        id: "send",
        method: Method::POST,
        path: "/rooms/{room}/messages",
        summary: "Send a message. A repetition with the same idempotency-key is answered with what the first did.",
        route: || post(messages::send),
    },
    Operation {
        id: "edit",
        method: Method::PATCH,
        path: "/rooms/{room}/messages/{seq}",
        summary: "Replace the text of one of your messages.",
        route: || patch(changes::edit),
    },
    Operation {
        id: "delete",
        method: Method::DELETE,
        path: "/rooms/{room}/messages/{seq}",
        summary: "Take the text of a message away, with its edits, mentions and reactions.",
        route: || delete(changes::delete),
    },
    Operation {
        id: "react",
        method: Method::PUT,
        path: "/rooms/{room}/messages/{seq}/reactions/{reaction}",
        summary: "React to a message.",
        route: || put(changes::react),
    },
    Operation {
        id: "unreact",
        method: Method::DELETE,
        path: "/rooms/{room}/messages/{seq}/reactions/{reaction}",
        summary: "Take a reaction of yours back.",
        route: || delete(changes::unreact),
    },
    Operation {
        id: "read",
        method: Method::PUT,
        path: "/rooms/{room}/read",
        summary: "Say how far you have read the room. It only moves forwards, and not beyond the room's end.",
        route: || put(cursors::read),
    },
    Operation {
        id: "unread",
        method: Method::GET,
        path: "/unread",
        summary: "What you have not read.",
        route: || get(cursors::unread),
    },
    Operation {
        id: "direct",
        method: Method::POST,
        path: "/direct",
        summary: "The direct room with another user, made when there is none.",
        route: || post(rooms::direct),
    },
    Operation {
        id: "directory",
        method: Method::GET,
        path: "/directory",
        summary: "The public rooms, which anyone may join.",
        route: || get(rooms::directory),
    },
    Operation {
        id: "createBot",
        method: Method::POST,
        path: "/bots",
        summary: "Make a bot. For administrators.",
        route: || post(bots::create),
    },
    Operation {
        id: "bots",
        method: Method::GET,
        path: "/bots",
        summary: "The bots. For administrators.",
        route: || get(bots::list),
    },
    Operation {
        id: "deleteBot",
        method: Method::DELETE,
        path: "/bots/{bot}",
        summary: "End a bot and its tokens. Its name stays taken. For administrators.",
        route: || delete(bots::remove),
    },
    Operation {
        id: "giveToken",
        method: Method::POST,
        path: "/bots/{bot}/tokens",
        summary: "Give a bot a token. For administrators.",
        route: || post(bots::give),
    },
    Operation {
        id: "tokens",
        method: Method::GET,
        path: "/bots/{bot}/tokens",
        summary: "A bot's tokens. For administrators.",
        route: || get(bots::tokens),
    },
    Operation {
        id: "endToken",
        method: Method::DELETE,
        path: "/bots/{bot}/tokens/{token}",
        summary: "End a bot's token. For administrators.",
        route: || delete(bots::end),
    },
    Operation {
        id: "announce",
        method: Method::POST,
        path: "/announcements",
        summary: "Tell something to everybody who is online; once, however often the same idempotency-key comes. For administrators.",
        route: || post(announcements::announce),
    },
    Operation {
        id: "announcements",
        method: Method::GET,
        path: "/announcements",
        summary: "What is announced to everybody.",
        route: || get(announcements::list),
    },
    Operation {
        id: "endAnnouncement",
        method: Method::DELETE,
        path: "/announcements/{announcement}",
        summary: "End an announcement. For administrators.",
        route: || delete(announcements::end),
    },
];
