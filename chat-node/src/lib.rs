//! The chat node: the WebSocket hub and the persistence of a chat service.
//!
//! A message's journey, which is also the order of the rooms:
//!
//! | room | what it owns | what it never does |
//! |---|---|---|
//! | [`gateway`] | sockets, admission | decide anything about chat |
//! | [`rest`] | everything that is not live | have rules of its own |
//! | [`protocol`] | frames, error codes, close codes | know a socket or a store |
//! | [`auth`] | tokens and passwords | know a connection |
//! | [`logins`] | who is signed in on which device, and that what is ended ends | be asked for a frame |
//! | [`rights`] | who may do what in a room; pure | know a user or a room |
//! | [`session`] | what a connection may do; pure | wait, or look at a clock |
//! | [`intake`] | taking sends in: to the log, or to the durable queue while the database is away | acknowledge what is not durable |
//! | [`store`] | the room logs; the only one that knows SQL | know connections or the bus |
//! | [`redis`] | sessions, when one is bound; the only one that knows Redis | keep what a message depends on |
//! | [`hub`] | delivery in order, once, straight to the sockets | wait for a slow one |
//! | [`signals`] | presence, typing, read cursors: told, never stored | be relied on |
//! | [`announcements`] | what everybody who is online is told | wait for a slow one |
//! | [`bus`] | telling other nodes; the only one that knows RabbitMQ | be relied on |
//! | [`retention`] | when old history and unused outboxes go | know what goes with it |
//! | [`trace`] | the way of some messages, as spans; the only one that knows OpenTelemetry | hold a message up |
//! | [`drain`] | leaving without a stampede | |
//!
//! [`node`] puts them together; [`admin`], [`metric`], [`stats`] and [`reach`] tell how it goes, [`self_test`] finds out before a client does.

pub mod admin;
pub mod announcements;
pub mod auth;
pub mod bus;
pub mod drain;
pub mod event;
pub mod gateway;
pub mod health;
pub mod hearing;
pub(crate) mod https;
pub mod hub;
pub mod intake;
pub mod logins;
pub mod metric;
pub mod node;
pub mod protocol;
pub(crate) mod rate;
pub mod reach;
pub(crate) mod recent;
pub mod redis;
pub mod rest;
pub mod retention;
pub mod rights;
pub mod self_test;
pub mod session;
pub mod signals;
pub mod stats;
pub mod store;
pub mod trace;

pub use node::{Identity, Node, StartError};
