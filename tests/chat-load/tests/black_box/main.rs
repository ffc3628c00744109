//! The protocol against the real program, by a client that was written from `docs/protocol.md` alone.
//!
//! [`talk`], [`mistakes`], [`trouble`], [`identity`], [`sessions`] and [`protection`] go through the page with a bare WebSocket, [`rest`],
//! [`changes`] and [`announcements`] through `docs/rest.md`; [`promise`] puts clients of the library through a power cut and a drain, and
//! lets the checker judge.

#![allow(clippy::unwrap_used, reason = "a panic in the helpers of a test is its report, like one in the test")]

mod announcements;
mod caller;
mod changes;
mod identity;
mod issuer;
mod life;
mod mistakes;
mod promise;
mod protection;
mod rest;
mod sessions;
mod talk;
mod trouble;
mod wire;
