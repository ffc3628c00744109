//! Chaos: a crowd talks while the servers under it are killed, frozen and cut off in turn, and the checker judges at the end.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | which faults strike when, pure |
//! | [`stage`] | nodes, PostgreSQL and RabbitMQ of the test's own, with a network between them that can be made bad |
//! | [`proxy`] | that network: one link, which forwards, delays, swallows or cuts |
//!
//! Every fault is real: a signal to a process, or bytes that do not arrive.

pub mod plan;
pub mod proxy;
pub mod stage;
