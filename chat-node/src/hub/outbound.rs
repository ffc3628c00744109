//! A connection's outbound queue: what the hub and the session put in, the connection's task takes out.
//!
//! Bounded by frames and by bytes. A queue that is full closes its connection, so that a slow client never delays another; it
//! resumes where it was.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    event::{Membership, Seat},
    protocol::CloseReason,
};

/// Something that the hub tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The user became a member of a room, ceased to be one, or stands otherwise there.
    Changed(Membership),
    /// These are all rooms of the user.
    All(Vec<Seat>),
}

/// What was taken out.
#[derive(Debug, Default)]
pub struct Drained {
    /// Frames to write, in order.
    pub frames: VecDeque<Utf8Bytes>,
    /// Notices for the session, in order.
    pub notices: Vec<Notice>,
    /// Set once the connection must end, after these frames.
    pub close: Option<CloseReason>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    notices: Vec<Notice>,
    close: Option<CloseReason>,
}

/// The queue of one connection.
pub struct Outbound {
    queue: Mutex<Queue>,
    frames_max: usize,
    bytes_max: usize,
    filled: Notify,
    emptied: Notify,
}

impl Outbound {
    /// An empty queue with its bounds. It allocates only when used.
    pub fn new(frames_max: usize, bytes_max: usize) -> Self {
        Outbound { queue: Mutex::default(), frames_max, bytes_max, filled: Notify::new(), emptied: Notify::new() }
    }

    /// Adds a frame. When the queue is full, drops it all and closes the connection instead.
    pub fn push(&self, frame: Utf8Bytes) {
        let mut queue = self.queue.lock();
        if queue.close.is_some() {
            return;
        }
        if queue.frames.len() >= self.frames_max || queue.bytes + frame.len() > self.bytes_max {
            queue.frames.clear();
            queue.close = Some(CloseReason::SlowConsumer);
        } else {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Adds a frame that can be missed: a queue that is half full does without it.
    pub fn offer(&self, frame: &Utf8Bytes) {
        let is_busy = {
            let queue = self.queue.lock();
            queue.frames.len() >= self.frames_max / 2 || queue.bytes + frame.len() > self.bytes_max / 2
        };
        if !is_busy {
            self.push(frame.clone());
        }
    }

    /// Tells the session something.
    pub fn notice(&self, notice: Notice) {
        self.queue.lock().notices.push(notice);
        self.filled.notify_one();
    }

    /// Closes the connection after what is queued and a last frame.
    pub fn close(&self, reason: CloseReason, last: Option<Utf8Bytes>) {
        let mut queue = self.queue.lock();
        if queue.close.is_none() {
            queue.frames.extend(last);
            queue.close = Some(reason);
        }
        drop(queue);
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// Whether the connection is to be closed.
    pub fn is_closing(&self) -> bool {
        self.queue.lock().close.is_some()
    }

    /// Waits until there is something to take out.
    pub async fn filled(&self) {
        loop {
            let notified = self.filled.notified();
            {
                let queue = self.queue.lock();
                if !queue.frames.is_empty() || !queue.notices.is_empty() || queue.close.is_some() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Takes everything out.
    pub fn drain(&self) -> Drained {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        let drained = Drained {
            frames: std::mem::take(&mut queue.frames),
            notices: std::mem::take(&mut queue.notices),
            close: queue.close,
        };
        drop(queue);
        self.emptied.notify_one();
        drained
    }

    /// Waits until `frames` more can be pushed, or half of the queue is free when they are too many. For a replay, which can wait,
    /// unlike live events. Only one may wait at a time.
    pub async fn space(&self, frames: usize) {
        let frames = frames.min(self.frames_max / 2);
        loop {
            let notified = self.emptied.notified();
            {
                let queue = self.queue.lock();
                let fits = queue.frames.len() + frames <= self.frames_max && queue.bytes <= self.bytes_max / 2;
                if fits || queue.close.is_some() {
                    return;
                }
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_closes_the_connection_and_keeps_nothing() {
        for (frames_max, bytes_max) in [(2, 100), (100, 2)] {
            let outbound = Outbound::new(frames_max, bytes_max);
            for _ in 0..3 {
                outbound.push("x".into());
            }
            let drained = outbound.drain();
            assert_eq!((drained.frames.len(), drained.close), (0, Some(CloseReason::SlowConsumer)));
        }
    }

    #[test]
    fn what_can_be_missed_never_fills_a_queue() {
        let outbound = Outbound::new(4, 100);
        (0..9).for_each(|_| outbound.offer(&"x".into()));
        let drained = outbound.drain();
        assert_eq!((drained.frames.len(), drained.close), (2, None));
    }

    #[test]
    fn a_close_keeps_what_was_queued_and_takes_nothing_more() {
        let outbound = Outbound::new(10, 100);
        outbound.push("a".into());
        outbound.close(CloseReason::Leaving, Some("bye".into()));
        outbound.push("late".into());
        outbound.close(CloseReason::Idle, None);
        let drained = outbound.drain();
        assert_eq!(drained.frames, ["a", "bye"].map(Utf8Bytes::from));
        assert_eq!(drained.close, Some(CloseReason::Leaving));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replay_waits_for_space() {
        let outbound = Outbound::new(4, 100);
        (0..3).for_each(|_| outbound.push("x".into()));
        tokio::join!(outbound.space(2), async {
            tokio::task::yield_now().await;
            outbound.drain();
        });
        assert!(outbound.drain().frames.is_empty());
    }
}
