//! The life of messages and members: what the stores promise, claimed of SQLite and of a real PostgreSQL alike.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod cursors;
mod directory;
mod ground;
mod messages;
mod moderation;
#[path = "../support/mod.rs"]
mod support;
