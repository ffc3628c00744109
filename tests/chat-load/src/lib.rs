//! A client of the ChatCluster protocol, and a proof of the promise from what clients saw.
//!
//! | module | what it is |
//! |---|---|
//! | [`frame`] | the frames of `docs/protocol.md` as types |
//! | [`dial`] | how a node is reached |
//! | [`rest`] | accounts and tokens |
//! | [`client`] | the client: outbox, resume, backoff |
//! | [`record`] | what one client saw, written down as it happens |
//! | [`checker`] | proves from records that nothing was lost, nothing came twice, and each room had one order |
//! | [`crowd`] | many clients in many rooms, who talk at a steady rate |
//!
//! Nothing here shares code with the server: the client is written from the protocol's page alone.

pub mod checker;
pub mod client;
pub mod crowd;
pub mod dial;
pub mod frame;
pub mod record;
pub mod rest;
