//! The chat node.
#![allow(missing_docs)]
pub mod bus;
pub mod event;
pub mod hub;
pub mod protocol;
pub mod store;
