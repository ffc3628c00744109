//! Whatever comes in: frames, sequences of them, configurations, tokens and request bodies, well-formed, damaged and made up.
//!
//! Each file states what must hold for any input. `corpus/` keeps inputs that are worth damaging; what a run finds is kept beside it in
//! `proptest-regressions` and tried first from then on.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod bodies;
mod configs;
mod damage;
mod frames;
mod sessions;
mod tokens;
