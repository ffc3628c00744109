//! What the claims stand on: both stores, a room, and words for what is in its log.

use chat_node::{
    event::{Event, Reference, RoomKind, User},
    protocol::{Code, Command, HistoryRange, RoomReference},
    store::{Answer, Append, Changed, Content, Message, SharedStore, StoreError, StoreLimits},
};
use serde_json::Value;
use uuid::Uuid;

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 5, members_per_room_max: 4, outbox_results_kept: 99 };

pub(crate) const NOW: i64 = 1_767_225_600_000;

/// Runs a claim on both stores, each with alice's room and nothing else.
pub(crate) async fn on_both<F: Future<Output = ()>>(claim: impl Fn(Ground) -> F) {
    let claim = &claim;
    crate::support::on_both(LIMITS, |store| async move {
        for name in ["alice", "bob", "carol", "dave", "erin"] {
            store.arrive(name, None, &[], NOW).await.unwrap();
        }
        let room = store.create_room(&user("alice"), "lobby", RoomKind::Public, NOW).await.unwrap().room.id;
        claim(Ground { store, room }).await;
    })
    .await;
}

/// A store with alice's room in it; bob, carol, dave and erin are known too.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) store: SharedStore,
    pub(crate) room: Uuid,
}

impl Ground {
    pub(crate) async fn join(&self, name: &str) -> Result<Changed, StoreError> {
        self.store.join(&user(name), &RoomReference::Id(self.room), NOW).await
    }

    /// Sends as the first of a new outbox.
    pub(crate) async fn send(&self, name: &str, message: Message) -> Answer {
        let append = Append {
            sender: name.into(),
            outbox: Uuid::new_v4(),
            n: 1,
            room: self.room,
            content: Content::Message(message),
            event: Uuid::now_v7(),
            time: NOW,
        };
        self.store.append(&[append]).await.unwrap().remove(0)
    }

    pub(crate) async fn say(&self, name: &str, text: &str) -> Reference {
        match self.send(name, Message { text: text.into(), ..Message::default() }).await {
            Answer::Committed { event, new: true } => event.reference(),
            other => panic!("not committed: {other:?}"),
        }
    }

    /// Carries out a command as it stands in a request, with the room filled in.
    pub(crate) async fn ask(&self, name: &str, command: Value) -> Result<Changed, StoreError> {
        self.ask_at(name, command, NOW).await
    }

    pub(crate) async fn ask_at(&self, name: &str, mut command: Value, now: i64) -> Result<Changed, StoreError> {
        command["room"] = serde_json::json!(self.room);
        let command: Command = serde_json::from_value(command).unwrap();
        command.check(100).unwrap();
        self.store.carry_out(&user(name), &command, now).await
    }

    /// The frames of the log.
    pub(crate) async fn log(&self) -> Vec<Value> {
        let page = self.store.page(self.room, HistoryRange { before: None, after: Some(0) }, 100).await.unwrap();
        page.events.iter().map(frame).collect()
    }
}

pub(crate) fn user(name: &str) -> User {
    name.into()
}

pub(crate) fn frame(event: &Event) -> Value {
    serde_json::from_str(&event.frame).unwrap()
}

/// What the events of a change tell: `kind sender user role`, as far as they have these.
pub(crate) fn told(changed: &Changed) -> Vec<String> {
    let words = |event: &Event| {
        let frame = frame(event);
        let fields =
            ["kind", "sender", "user", "role"].map(|field| frame[field].as_str().unwrap_or_default().to_owned());
        fields.join(" ").trim().to_owned()
    };
    changed.events.iter().map(words).collect()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Code {
    match result {
        Err(StoreError::Refused(code)) => code,
        other => panic!("not refused: {other:?}"),
    }
}
