//! What a connection may still do when it should not: raw sockets before a real node.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod addresses;
mod catching_up;
mod closing;
mod leaving;
#[allow(dead_code, reason = "written for other tests as well")]
#[path = "../support/running.rs"]
mod running;
mod wire;
