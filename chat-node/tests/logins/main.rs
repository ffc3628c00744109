//! Logins and rolls: claimed of SQLite and of a real PostgreSQL alike, and of two nodes that share the latter.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod bots;
mod circles;
mod ground;
mod guessing;
mod nodes;
mod passwords;
mod refreshing;
mod rolls;
#[path = "../support/mod.rs"]
mod support;
mod vanishing;
