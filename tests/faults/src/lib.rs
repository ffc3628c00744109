//! Proof under faults: the operator, its own code unchanged, against an API server in memory, through every fault of a kind.
//!
//! | room | owns |
//! |---|---|
//! | [`api`] | the API server |
//! | [`world`] | what Kubernetes does around it: StatefulSets, EndpointSlices, garbage, a kubelet |
//! | [`clock`] | the time of a schedule |
//! | [`scenario`] | what users want and what befalls their clusters |
//! | [`plan`] | the faults of a schedule |
//! | [`declared`] | whether a cluster is as declared, and what of a state has to be the same |
//! | [`guard`] | what holds of a cluster from when to when |
//! | [`judge`] | what must be true at every moment |
//! | [`run`] | one schedule |
//! | [`explore`] | all of them |
//! | [`aim`] | faults aimed at where they do the most harm |
//! | [`mutants`] | mistakes that have to be found |
//! | [`changes`] | changes of every field of the schema |
//!
//! Every schedule has one thread, a paused clock and seeded chance, so the same schedule is the same run.

pub mod aim;
pub mod api;
pub mod changes;
pub mod clock;
pub mod declared;
pub mod explore;
pub mod guard;
pub mod judge;
pub mod mutants;
pub mod plan;
pub mod run;
pub mod scenario;
pub mod world;

/// Schedules are made of small JSON trees, and half of the time went into the memory for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
