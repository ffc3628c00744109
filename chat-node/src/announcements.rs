//! Announcements: what administrators tell everybody who is online.
//!
//! Owns which are in force, as far as this node has read, and whom they are told to. The store is the truth: whatever may have changed it
//! is answered by reading it all anew, and what differs is told. An announcement is encoded once and put into each connection's queue;
//! nobody waits for a slow one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    hub::{ConnectionId, Outbound, Writes},
    protocol::{AnnouncementFrame, Frames, ServerFrame},
    store::{ANNOUNCEMENTS_MAX, Announcement, SharedStore, StoreError, within},
};

/// Time between comparisons with the store, should a hint be lost unnoticed.
const COMPARED_EVERY: Duration = Duration::from_secs(30);

/// Time between attempts to read from a store that is away.
const RETRY: Duration = Duration::from_millis(500);

/// How long the store may take to say what is in force.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(5);

/// The announcements of a node.
pub struct Announcements {
    told: Mutex<Told>,
    store: SharedStore,
    /// Something may have changed.
    stirred: Notify,
}

#[derive(Default)]
struct Told {
    in_force: BTreeMap<Uuid, InForce>,
    here: HashMap<ConnectionId, Arc<Outbound>>,
}

struct InForce {
    frame: Frames,
    until_ms: Option<i64>,
}

impl InForce {
    fn holds(&self, now_ms: i64) -> bool {
        self.until_ms.is_none_or(|until_ms| now_ms < until_ms)
    }
}

impl Announcements {
    /// Those of a store, which [`follow`](Self::follow) reads.
    pub fn new(store: SharedStore) -> Announcements {
        Announcements { told: Mutex::default(), store, stirred: Notify::new() }
    }

    /// Reads whenever something may have changed, for as long as the node lives.
    pub async fn follow(self: Arc<Self>) {
        loop {
            match self.recheck().await {
                Ok(()) => {
                    let _ = timeout(COMPARED_EVERY, self.stirred.notified()).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "announcements cannot be read yet");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// A connection was welcomed: puts what is in force into its queue, and what comes later follows.
    pub fn enter(&self, id: ConnectionId, outbound: &Arc<Outbound>, now_ms: i64) {
        let mut told = self.told.lock();
        let in_force = told.in_force.values().filter(|announcement| announcement.holds(now_ms));
        in_force.for_each(|announcement| outbound.put(announcement.frame.clone()));
        told.here.insert(id, outbound.clone());
    }

    /// A connection has ended.
    pub fn exit(&self, id: ConnectionId) {
        self.told.lock().here.remove(&id);
    }

    /// The store may have other announcements now: it is read soon.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Reads what is in force, and tells what differs from what was told. One at a time, so that what was read first comes first.
    async fn recheck(&self) -> Result<(), StoreError> {
        let now_ms = crate::gateway::now_ms();
        let read = within(ANSWER_SECONDS_MAX, self.store.announcements(None, ANNOUNCEMENTS_MAX, now_ms)).await?;
        let told = self.told.lock().take(&read, now_ms);
        let mut writes = Writes::default();
        for outbound in &told {
            writes.flush(outbound).await;
        }
        Ok(())
    }
}

impl Told {
    /// Takes what is in force now, and puts what differs into everybody's queue. Gives those that are to be flushed.
    fn take(&mut self, read: &[Announcement], now_ms: i64) -> Vec<Arc<Outbound>> {
        let mut news = Vec::new();
        self.in_force.retain(|id, announcement| {
            let stays = read.iter().any(|read| read.id == *id);
            // What is over by itself needs no word.
            if !stays && announcement.holds(now_ms) {
                news.push(Frames::text(&ServerFrame::AnnouncementEnded { id: *id }.encode()));
            }
            stays
        });
        for announcement in read {
            self.in_force.entry(announcement.id).or_insert_with(|| {
                let frame = ServerFrame::Announcement(AnnouncementFrame::new(announcement)).encode();
                let frame = Frames::text(&frame);
                news.push(frame.clone());
                InForce { frame, until_ms: announcement.until_ms }
            });
        }
        if news.is_empty() {
            return Vec::new();
        }
        for outbound in self.here.values() {
            news.iter().for_each(|frame| outbound.put(frame.clone()));
        }
        self.here.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        hub,
        store::{Announced, SqliteStore, StoreLimits},
    };

    const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 1, members_per_room_max: 1, outbox_results_kept: 1 };

    fn announcement(id: u128, text: &str, until_ms: Option<i64>) -> Announcement {
        Announcement { id: Uuid::from_u128(id), sender: "root".into(), text: text.into(), time_ms: 1, until_ms }
    }

    /// What was told: the text of an announcement, or the number of one that was ended.
    fn words(texts: Vec<String>) -> Vec<String> {
        let word = |text: String| {
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str() {
                Some("announcement") => frame["text"].as_str().unwrap().to_owned(),
                Some("announcement_ended") => {
                    Uuid::parse_str(frame["id"].as_str().unwrap()).unwrap().as_u128().to_string()
                }
                _ => panic!("{frame}"),
            }
        };
        texts.into_iter().map(word).collect()
    }

    #[test]
    fn what_differs_is_told_once_and_to_whoever_comes_later_what_is_in_force() {
        let mut told = Told::default();
        let (early, socket) = hub::scripted(9, 9_000);
        socket.allow(usize::MAX);
        told.here.insert(ConnectionId(1), early);
        let mut take = |read: &[Announcement], now_ms| {
            told.take(read, now_ms).iter().for_each(|outbound| outbound.flush());
            words(socket.take_texts())
        };
        let (a, b, c) = (announcement(1, "a", None), announcement(2, "b", Some(100)), announcement(3, "c", None));
        assert_eq!(take(&[a.clone(), b.clone()], 0), ["a", "b"]);
        assert_eq!(take(&[a.clone(), b.clone()], 0), [""; 0], "nothing differs");
        assert_eq!(take(&[b.clone(), c.clone()], 99), ["1", "c"], "a was ended");
        assert_eq!(take(&[c], 100), [""; 0], "b is over by itself");
        assert_eq!(take(&[], 101), ["3"]);
    }

    #[tokio::test]
    async fn a_slow_connection_is_closed_and_delays_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store: SharedStore = Arc::new(SqliteStore::new(&folder.path().join("chat.db"), LIMITS));
        store.migrate().await.unwrap();
        let announcements = Announcements::new(store.clone());
        // The first takes nothing, the second everything.
        let ((slow, _), (quick, socket)) = (hub::scripted(1, 9_000), hub::scripted(1, 9_000));
        socket.allow(usize::MAX);
        announcements.enter(ConnectionId(1), &slow, 0);
        announcements.enter(ConnectionId(2), &quick, 0);
        for (id, text) in [(1, "a"), (2, "b"), (3, "c")] {
            assert_eq!(store.announce(&announcement(id, text, None), None).await.unwrap(), Announced::Now);
            announcements.recheck().await.unwrap();
        }
        assert_eq!(words(socket.take_texts()), ["a", "b", "c"]);
        assert!(slow.is_closing() && !quick.is_closing());
        announcements.exit(ConnectionId(2));
        let (late, socket) = hub::scripted(9, 9_000);
        socket.allow(usize::MAX);
        announcements.enter(ConnectionId(3), &late, 0);
        late.flush();
        assert_eq!(words(socket.take_texts()), ["a", "b", "c"]);
        store.end_announcement(Uuid::from_u128(2), 0).await.unwrap();
        announcements.recheck().await.unwrap();
        assert_eq!(words(socket.take_texts()), ["2"]);
        store.close().await;
    }

    #[test]
    fn the_frame_is_that_of_the_page() {
        let frame = ServerFrame::Announcement(AnnouncementFrame::new(&announcement(7, "hear", Some(9)))).encode();
        let frame: Value = serde_json::from_str(&frame).unwrap();
        let expected = json!({"type": "announcement", "id": Uuid::from_u128(7), "text": "hear", "sender": "root", "time": 1, "until": 9});
        assert_eq!(frame, expected);
    }
}
