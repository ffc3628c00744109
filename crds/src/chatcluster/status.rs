//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};

use super::known_to_kubernetes;

/// What the operator saw and did.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[schemars(transform = RecursiveTransform(known_to_kubernetes))]
#[serde(rename_all = "camelCase", default)]
pub struct ChatClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The standard conditions: `Ready`, `Progressing`, `PostgresBound`, `RabbitmqBound`, `RedisBound`, `AuthConfigured`, `DurabilityReduced`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Nodes that exist, without those that a rollout adds for a while.
    pub replicas: i32,
    /// Nodes that are ready, without those that a rollout adds for a while.
    pub ready_replicas: i32,
    /// Nodes of the newest revision.
    pub updated_replicas: i32,
    /// Selector of the nodes' pods, for autoscalers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Open connections of all nodes; told anew when it has changed by more than 5%.
    pub connections: i64,
    /// Version of the chat node, from its image's tag.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Shape of the pod template that the running pods were made with. A newer operator keeps it until the spec changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_version: Option<i32>,
    /// What a newer operator would change about the pods, and does with the next change of the spec that they must know of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub update_available: String,
    /// The rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// Where the rollout is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// The step.
    pub phase: RolloutPhase,
    /// The revision that is rolled out, as in the label `controller-revision-hash`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The revision that clients were on before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stable_revision: String,
    /// The revision that the client Service selects; empty when it selects every node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serving_revision: String,
    /// The ordinals that exist, and from which on they are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Nodes that the rollout adds at most.
    pub surge: i32,
    /// Most new nodes of this window that were ready at once. A further one is progress, one that comes and goes is none.
    pub ready_nodes: i32,
    /// Hash of the pods' desired template; `order`, `liveGate` and `failure` speak of this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub spec_hash: String,
    /// Hash of a desired template that has failed. It is not tried again until the spec changes or somebody says so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failed_spec_hash: String,
    /// Why it has failed, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure: String,
    /// How the new nodes did against the old ones, when that was last judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_gate: Option<LiveGate>,
    /// Self-tests in a row that a node may have failed already: it did when a person said `resume`, and is asked anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub forgiven_self_tests: u32,
    /// When a person last said `resume` for this spec: what nodes did before does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_time: Option<Time>,
    /// What a person has ordered for this rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<RolloutOrder>,
    /// The value of the annotation `chatcluster.dev/rollout` that was taken last. It acts once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// When this step began, with this window and this revision served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_time: Option<Time>,
    /// When the rollout last came forward: another window, or one more new node that is ready. Later by time in which nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
    /// While the progress deadline runs: when the operator last looked, to within 20 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_look_time: Option<Time>,
    /// What it waits for, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How new nodes did against old ones under clients.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveGate {
    /// They did no worse.
    Passed,
    /// They had too little to do to be judged.
    Inconclusive,
    /// They did worse.
    Failed,
}

/// What a person has ordered for a rollout.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOrder {
    /// Go on to the end without asking the gates.
    Promote,
    /// Go back to the old nodes.
    Abort,
}

/// Ordinals of the StatefulSet: `start .. start + replicas`, of which those from `start + partition` on are new.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Window {
    /// The lowest ordinal.
    pub start: i32,
    /// How many ordinals.
    pub replicas: i32,
    /// How many of them, from the lowest, keep the stable revision.
    pub partition: i32,
}

/// Steps of a rollout.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RolloutPhase {
    /// All nodes are of one revision.
    #[default]
    Stable,
    /// New nodes are being added.
    Surging,
    /// New nodes test themselves; no client is led to them.
    Proving,
    /// New connections are being turned to the new nodes.
    Steering,
    /// The new nodes serve new connections and are compared with the old ones.
    Judging,
    /// The lowest old nodes leave.
    Sliding,
    /// The rollout stands until a person or another spec moves it.
    Paused,
    /// Clients are led back to old nodes, and the new ones leave.
    Returning,
    /// The only node restarts in place.
    Restarting,
}

impl RolloutPhase {
    /// All of them: the closed set that labels of metrics come from.
    pub const ALL: [RolloutPhase; 9] = [
        RolloutPhase::Stable,
        RolloutPhase::Surging,
        RolloutPhase::Proving,
        RolloutPhase::Steering,
        RolloutPhase::Judging,
        RolloutPhase::Sliding,
        RolloutPhase::Paused,
        RolloutPhase::Returning,
        RolloutPhase::Restarting,
    ];

    /// The name, as in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutPhase::Stable => "Stable",
            RolloutPhase::Surging => "Surging",
            RolloutPhase::Proving => "Proving",
            RolloutPhase::Steering => "Steering",
            RolloutPhase::Judging => "Judging",
            RolloutPhase::Sliding => "Sliding",
            RolloutPhase::Paused => "Paused",
            RolloutPhase::Returning => "Returning",
            RolloutPhase::Restarting => "Restarting",
        }
    }
}

/// The conditions of a `ChatCluster`. All are always present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Clients can connect to as many nodes as were asked for.
    Ready,
    /// A change is on its way and comes forward.
    Progressing,
    /// The Postgres binding is complete.
    PostgresBound,
    /// The RabbitMQ binding is complete.
    RabbitmqBound,
    /// The Redis binding is complete.
    RedisBound,
    /// Tokens can be verified.
    AuthConfigured,
    /// An acknowledged message could be lost with a machine or a pod.
    DurabilityReduced,
}

impl ConditionType {
    /// All of them, in the order that they are reported in.
    pub const ALL: [ConditionType; 7] = [
        ConditionType::Ready,
        ConditionType::Progressing,
        ConditionType::PostgresBound,
        ConditionType::RabbitmqBound,
        ConditionType::RedisBound,
        ConditionType::AuthConfigured,
        ConditionType::DurabilityReduced,
    ];

    /// The name, as in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Ready => "Ready",
            ConditionType::Progressing => "Progressing",
            ConditionType::PostgresBound => "PostgresBound",
            ConditionType::RabbitmqBound => "RabbitmqBound",
            ConditionType::RedisBound => "RedisBound",
            ConditionType::AuthConfigured => "AuthConfigured",
            ConditionType::DurabilityReduced => "DurabilityReduced",
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
