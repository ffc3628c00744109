//! The ChatCluster operator: turns a `ChatCluster` into running chat nodes and keeps them so.
//!
//! Data goes one way through the rooms, once per reconcile:
//!
//! | room | what it owns | client, clock? |
//! |---|---|---|
//! | [`caches`] | watches, and what they told, each kind in a [`cache`]; [`kinds`] those of other operators' kinds, [`interest`] who refers to which Secret | client |
//! | [`observe`] | the only reads; [`contents`] what is remembered of Secrets, [`pods`] what a pod's object says of it | client |
//! | [`nodes`] | what is asked of nodes; [`probes`] when, and what is remembered of it | client |
//! | [`validate`] | from a resource to a type that cannot hold nonsense | pure |
//! | [`bindings`] | which Secrets are read, whether they are complete, what pods mount of them | pure |
//! | [`desired`] | every child, one file each | pure |
//! | [`rollout`] | which ordinals, which selector, given what was observed and the time | pure |
//! | [`ending`] | how long a cluster that is deleted is held up, and by whom | pure |
//! | [`apply`] | the only writes of children; [`same`] tells what need not be written | client |
//! | [`status`] | what is reported, one file per condition | pure |
//! | [`pace`] | when it is written: at once, or together with what follows | clock |
//! | [`events`] | what is told once | client |
//!
//! [`reconcile`] is the whole on one screen, [`controller`] decides when it runs, [`lease`] whether; [`rights`] is what it may do.

pub mod apply;
pub mod bindings;
pub mod cache;
pub mod caches;
pub mod contents;
pub mod controller;
pub mod desired;
pub mod ending;
pub mod events;
pub mod health;
pub mod interest;
pub mod kinds;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod nodes;
pub mod observe;
pub mod pace;
pub mod pods;
pub mod probes;
pub mod readable;
pub mod reconcile;
pub mod rights;
pub mod rollout;
pub mod run;
pub mod same;
pub mod settings;
pub mod status;
pub mod template;
pub mod validate;
