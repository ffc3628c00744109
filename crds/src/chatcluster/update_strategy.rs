//! What a user writes about rollouts.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change of the pods is rolled out. A bound cluster slides: new nodes are added, prove themselves, take the new
/// connections, and the old ones drain, so that each client moves once. A self-contained node restarts in place.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!(self.maxSurge in [dyn(0), dyn('0%')]) || !(self.maxUnavailable in [dyn(0), dyn('0%')])").message(
        "maxSurge and maxUnavailable cannot both be zero, no node could ever be replaced: give one of them, such as maxSurge: 25%"
    ),
    validation = Rule::new("type(self.maxSurge) == int ? self.maxSurge >= 0 && self.maxSurge <= 1000 : self.maxSurge.matches('^(100|[1-9]?[0-9])%$')")
        .message("maxSurge must be a number of nodes from 0 to 1000 or a percentage from 0% to 100%, such as 25%"),
    validation = Rule::new(
        "type(self.maxUnavailable) == int ? self.maxUnavailable >= 0 && self.maxUnavailable <= 1000 : self.maxUnavailable.matches('^(100|[1-9]?[0-9])%$')"
    )
    .message("maxUnavailable must be a number of nodes from 0 to 1000 or a percentage from 0% to 100%, such as 25%")
)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Nodes added during a rollout: a number, or a percentage of `replicas` that is rounded up. The default is 25%; 100% spreads
    /// clients most evenly; 0 moves clients more than once.
    #[serde(default = "default_share")]
    pub max_surge: IntOrString,
    /// Nodes that may be missing during a rollout or an eviction: a number, or a percentage of `replicas` that is rounded down.
    #[serde(default = "default_share")]
    pub max_unavailable: IntOrString,
    /// Time over which a leaving node moves its clients, in seconds.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i64,
    /// Time for which new nodes serve new connections and are compared with the old ones, before old ones leave, in seconds.
    #[serde(default = "default_soak_seconds")]
    #[schemars(range(min = 0, max = 86400))]
    pub soak_seconds: i64,
    /// Time without progress after which a rollout is reported as stuck, and with `onFailure: Rollback` has failed, in seconds;
    /// `soakSeconds` and 5 s come on top while one is under way.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: i64,
    /// What to do when new nodes fail their self-test, do worse than the old ones, or (with `Rollback` only) do not come up in
    /// time.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What to do when the new nodes had too little to do to be judged.
    #[serde(default)]
    pub on_inconclusive: OnInconclusive,
    /// Stops a rollout where it is, and begins none. Nodes that are lost are still replaced.
    #[serde(default)]
    pub paused: bool,
}

/// What to do when a rollout fails.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Stop where it is, and wait for a person or another spec.
    #[default]
    Pause,
    /// Go back to the old nodes, and do not try this spec again.
    Rollback,
}

/// What to do when new nodes cannot be judged.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// Go on.
    #[default]
    Proceed,
    /// Wait until there is enough to judge, or somebody promotes the rollout.
    Wait,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        UpdateStrategy {
            max_surge: default_share(),
            max_unavailable: default_share(),
            drain_seconds: default_drain_seconds(),
            soak_seconds: default_soak_seconds(),
            progress_deadline_seconds: default_progress_deadline_seconds(),
            on_failure: OnFailure::default(),
            on_inconclusive: OnInconclusive::default(),
            paused: false,
        }
    }
}

fn default_share() -> IntOrString {
    IntOrString::String("25%".into())
}

fn default_drain_seconds() -> i64 {
    30
}

fn default_soak_seconds() -> i64 {
    10
}

fn default_progress_deadline_seconds() -> i64 {
    600
}
