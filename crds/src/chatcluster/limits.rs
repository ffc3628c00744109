//! Bounds on what a client may ask and a node may hold, as a user writes them. Each has the name that it has in a node's file.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on what a client may ask and a node may hold. What is absent has the node's default.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Open connections of one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: Option<u32>,
    /// Bytes of the text of one message. A frame may have four times as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub text_bytes_max: Option<u32>,
    /// Rooms that one user may be a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub rooms_per_user_max: Option<u32>,
    /// Members of one room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1_000_000))]
    pub members_per_room_max: Option<u32>,
    /// Frames that wait to be written to one connection before it is closed and told to resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 65_536))]
    pub queue_frames_max: Option<u32>,
    /// Events of one room that a resume replays; beyond, the client pages through history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replay_events_max: Option<u32>,
    /// Messages of one user in a second, lasting, on one node; beyond, a send is told when to come again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub sends_per_second_max: Option<u32>,
    /// Messages of one user at once, after a while without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sends_burst_max: Option<u32>,
    /// Requests of one user in a second, lasting, on one node; beyond, one over REST is refused with 429, and one over a connection waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_second_max: Option<u32>,
    /// Requests of one user at once, after a while without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_burst_max: Option<u32>,
    /// Silence after which a web client's connection is closed, in seconds. Longer than between two pings of a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 3_600))]
    pub web_idle_seconds: Option<u32>,
    /// Silence after which a mobile client's connection is closed, in seconds. Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 3_600))]
    pub mobile_idle_seconds: Option<u32>,
    /// What one client address may. Holds where the real address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_address: Option<AddressLimits>,
}

/// What one client address may do on one node (of IPv6: one /64).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressLimits {
    /// Open connections of web clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub web_connections_max: Option<u32>,
    /// Open connections of mobile clients. The stricter holds until a client says which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub mobile_connections_max: Option<u32>,
    /// New connections within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub new_connections_max: Option<u32>,
    /// Length of the sliding window, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub window_seconds: Option<u32>,
    /// Refusals within one window after which the address is shut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub refusals_max: Option<u32>,
    /// How long it is then shut out, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub shut_out_seconds: Option<u32>,
    /// REST requests in a second, lasting; beyond, a request is refused with 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second_max: Option<u32>,
    /// REST requests at once, after a while without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_burst_max: Option<u32>,
}
