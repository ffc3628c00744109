//! What nodes send each other: JSON, with the events' frames as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Shard;
use crate::{
    event::{Event, Membership},
    signals::{Peer, Signal},
};

/// What a message is about; its name is the routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) enum Topic {
    /// Events of a shard's rooms.
    Room(Shard),
    /// Changes of membership.
    Members,
    /// What nobody stores. Not numbered, so that no heartbeat names it to a node of a version that does not know it.
    Signals,
    /// Signs of life.
    Heartbeat,
}

impl From<Topic> for String {
    fn from(topic: Topic) -> String {
        match topic {
            Topic::Room(shard) => format!("room.{shard}"),
            Topic::Members => "members".into(),
            Topic::Signals => "signals".into(),
            Topic::Heartbeat => "heartbeat".into(),
        }
    }
}

impl TryFrom<String> for Topic {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "members" => Ok(Topic::Members),
            "signals" => Ok(Topic::Signals),
            "heartbeat" => Ok(Topic::Heartbeat),
            _ => name
                .strip_prefix("room.")
                .and_then(|shard| shard.parse().ok())
                .map(Topic::Room)
                .ok_or_else(|| format!("unknown topic {name:?}")),
        }
    }
}

/// One node's run: a node that restarts is another sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Sender {
    pub node: String,
    /// Distinguishes runs of the same name.
    pub run: u64,
}

impl Sender {
    /// How others name this run.
    pub(super) fn peer(&self) -> Peer {
        format!("{}/{}", self.node, self.run)
    }
}

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub sender: Sender,
    pub body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    /// Events' frames. `number` counts the messages of this topic from 1; `traces` has the context (W3C) of those that are followed.
    Events {
        topic: Topic,
        number: u64,
        frames: Vec<Box<RawValue>>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        traces: BTreeMap<Uuid, String>,
    },
    /// Changes of membership, numbered likewise.
    Memberships { number: u64, changes: Vec<Membership> },
    /// Signals; those that are lost are not missed.
    Signals { signals: Vec<Signal> },
    /// The latest number of every topic that was used.
    Heartbeat { numbers: BTreeMap<Topic, u64> },
}

pub(super) fn frames(events: &[Event]) -> Vec<Box<RawValue>> {
    let raw = |event: &Event| RawValue::from_string(event.frame.to_string()).expect("an event's frame is JSON");
    events.iter().map(raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_routing_keys_and_back() {
        for topic in [Topic::Room(0), Topic::Room(63), Topic::Members, Topic::Signals, Topic::Heartbeat] {
            assert_eq!(Topic::try_from(String::from(topic)), Ok(topic));
        }
        assert!(Topic::try_from("room.x".to_owned()).is_err());
    }

    #[test]
    fn a_message_is_read_back() {
        let numbers = BTreeMap::from([(Topic::Members, 3), (Topic::Room(7), 9)]);
        let sender = Sender { node: "demo-0".into(), run: 1 };
        let text =
            serde_json::to_string(&Message { sender, body: Body::Heartbeat { numbers: numbers.clone() } }).unwrap();
        let Body::Heartbeat { numbers: read } = serde_json::from_str::<Message>(&text).unwrap().body else { panic!() };
        assert_eq!(read, numbers);
    }

    #[test]
    fn events_that_nobody_follows_are_told_as_ever_and_read_from_a_node_that_follows_none() {
        let body = |traces| Body::Events { topic: Topic::Room(7), number: 1, frames: Vec::new(), traces };
        let plain = serde_json::to_string(&body(BTreeMap::new())).unwrap();
        assert_eq!(plain, r#"{"events":{"topic":"room.7","number":1,"frames":[]}}"#);
        let Body::Events { traces, .. } = serde_json::from_str(&plain).unwrap() else { panic!() };
        assert!(traces.is_empty());
        let followed = BTreeMap::from([(Uuid::from_u128(1), "00-x".to_owned())]);
        let text = serde_json::to_string(&body(followed.clone())).unwrap();
        let Body::Events { traces, .. } = serde_json::from_str(&text).unwrap() else { panic!() };
        assert_eq!(traces, followed);
    }
}
