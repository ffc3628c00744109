//! The chat node.
#![allow(missing_docs)]
pub mod event;
pub mod protocol;
pub mod store;
