//! A connection's way out: a bounded queue, and the socket behind it.
//!
//! Whoever fills the queue also writes it, straight to the socket; only when the socket is full is the connection's task woken to wait for
//! it. Bounded by frames and by bytes: a queue that a full socket lets grow beyond closes its connection, so that a slow client never
//! delays another; it resumes where it was. One piece may be of any size: how large the answer to a question is says nothing of who asked.

mod waiting;

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, timeout_at},
};

use self::waiting::Waiting;
use crate::{
    event::{Membership, Seat},
    protocol::{CloseReason, Frames},
};

/// How long a socket may take nothing before its client counts as gone.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How long what is queued may take to go out once the connection is to be closed, however slowly its client takes it.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// Pieces of one vectored write.
const PIECES_MAX: usize = 32;

/// Sockets that are written to before others get their turn: half a millisecond's worth.
const WRITES_AT_A_TIME: usize = 64;

/// Writes to many connections without keeping others from their turn.
#[derive(Debug, Default)]
pub struct Writes(usize);

impl Writes {
    /// Writes what waits for this connection.
    pub async fn flush(&mut self, outbound: &Outbound) {
        outbound.flush();
        self.0 += 1;
        if self.0.is_multiple_of(WRITES_AT_A_TIME) {
            yield_now().await;
        }
    }
}

/// Something that the hub tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The user became a member of a room, ceased to be one, or stands otherwise there.
    Changed(Membership),
    /// These are all rooms of the user.
    All(Vec<Seat>),
}

/// Where bytes leave the node.
pub trait Socket: Send + Sync {
    /// Writes as much as fits now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing fits; anything else when the peer is gone.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until something may fit.
    fn writable(&self) -> BoxFuture<'_, io::Result<()>>;
}

/// What the connection's task is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Give these to the session, in order.
    Notices(Vec<Notice>),
    /// End, for this reason; everything before was written, or had its time.
    Close(CloseReason),
    /// End: the peer is gone.
    Gone,
}

struct Queue {
    /// `None` once the connection has ended or the peer is gone.
    socket: Option<Arc<dyn Socket>>,
    /// Whole frames; of the first, `written` bytes are gone already.
    waiting: Waiting,
    written: usize,
    frames: usize,
    bytes: usize,
    notices: Vec<Notice>,
    close: Option<CloseReason>,
    /// Until when what waits may still be written, once it is to be closed.
    close_by: Option<Instant>,
    /// Since when the socket takes nothing.
    blocked: Option<Instant>,
}

/// The way out of one connection.
pub struct Outbound {
    queue: Mutex<Queue>,
    frames_max: usize,
    bytes_max: usize,
    /// There is something for the task to do.
    needed: Notify,
    /// There is more room.
    emptied: Notify,
}

impl Outbound {
    /// An empty queue with its bounds. It allocates only when used.
    pub fn new(socket: Arc<dyn Socket>, frames_max: usize, bytes_max: usize) -> Self {
        let queue = Queue {
            socket: Some(socket),
            waiting: Waiting::default(),
            written: 0,
            frames: 0,
            bytes: 0,
            notices: Vec::new(),
            close: None,
            close_by: None,
            blocked: None,
        };
        Outbound { queue: Mutex::new(queue), frames_max, bytes_max, needed: Notify::new(), emptied: Notify::new() }
    }

    /// Adds a frame and writes it, if the socket takes it.
    pub fn push(&self, text: &str) {
        self.send(Frames::text(text));
    }

    /// Likewise.
    pub fn send(&self, frames: Frames) {
        self.put(frames);
        self.flush();
    }

    /// Adds frames, to be written by the next [`flush`](Self::flush).
    pub fn put(&self, frames: Frames) {
        let mut queue = self.queue.lock();
        if queue.close.is_none() {
            queue.put(frames);
            if queue.blocked.is_some() {
                self.enforce(&mut queue);
            }
        }
    }

    /// Adds a frame that can be missed, and writes it: a queue that is half full does without it.
    pub fn offer(&self, frame: &Frames) {
        let is_busy = {
            let queue = self.queue.lock();
            queue.frames >= self.frames_max / 2 || queue.bytes + frame.bytes().len() > self.bytes_max / 2
        };
        if !is_busy {
            self.send(frame.clone());
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() {
            return;
        }
        let (bytes, was_blocked) = (queue.bytes, queue.blocked.is_some());
        queue.write();
        let progress = queue.bytes < bytes;
        self.enforce(&mut queue);
        let is_needed = queue.close.is_some() || queue.socket.is_none() || (queue.blocked.is_some() && !was_blocked);
        drop(queue);
        if is_needed {
            self.needed.notify_one();
        }
        if progress {
            self.emptied.notify_one();
        }
    }

    /// Closes the connection if more waits than may.
    fn enforce(&self, queue: &mut Queue) {
        let too_many_bytes = || queue.bytes > self.bytes_max && queue.bytes - queue.largest() > self.bytes_max;
        if (queue.frames > self.frames_max || too_many_bytes()) && queue.close != Some(CloseReason::SlowConsumer) {
            queue.give_up();
            self.needed.notify_one();
            self.emptied.notify_one();
        }
    }

    /// Tells the session something.
    pub fn notice(&self, notice: Notice) {
        self.queue.lock().notices.push(notice);
        self.needed.notify_one();
    }

    /// Closes the connection after what is queued and a last frame.
    pub fn close(&self, reason: CloseReason, last: Option<&str>) {
        let mut queue = self.queue.lock();
        if queue.close.is_none() {
            last.into_iter().for_each(|last| queue.put(Frames::text(last)));
            queue.close_for(reason);
        }
        drop(queue);
        self.needed.notify_one();
        self.emptied.notify_one();
    }

    /// Adds a frame even when the connection is closing: its close frame, or an answer to one.
    pub fn push_last(&self, frame: Frames) {
        self.queue.lock().put(frame);
        self.flush();
    }

    /// The connection has ended: lets go of the socket and of all that waits, whoever still holds this.
    pub fn end(&self) {
        self.queue.lock().end();
        self.emptied.notify_one();
    }

    /// Whether the connection is to be closed, or gone.
    pub fn is_closing(&self) -> bool {
        let queue = self.queue.lock();
        queue.close.is_some() || queue.socket.is_none()
    }

    /// Writes whenever a full socket has room again, and returns when there is something that only the connection's task can do.
    pub async fn turn(&self) -> Turn {
        loop {
            let needed = self.needed.notified();
            let (socket, blocked, close_by) = {
                let mut queue = self.queue.lock();
                if let (Some(reason), Some(by)) = (queue.close, queue.close_by)
                    && by <= Instant::now()
                {
                    return Turn::Close(reason);
                }
                if !queue.notices.is_empty() {
                    return Turn::Notices(std::mem::take(&mut queue.notices));
                }
                if queue.close.is_some() && queue.blocked.is_none() {
                    queue.write();
                }
                if let (Some(reason), true) = (queue.close, queue.waiting.is_empty()) {
                    return Turn::Close(reason);
                }
                let Some(socket) = queue.socket.clone() else { return Turn::Gone };
                (socket, queue.blocked, queue.close_by)
            };
            let Some(since) = blocked else {
                needed.await;
                continue;
            };
            // Boxed, because it is rare and every connection would keep a place for it.
            let stalled = since + STALL_MAX;
            let by = close_by.map_or(stalled, |by| by.min(stalled));
            let room = Box::pin(timeout_at(by, socket.writable()));
            tokio::select! {
                room = room => match room {
                    Ok(Ok(())) => self.flush(),
                    Ok(Err(_)) => return Turn::Gone,
                    Err(_) if by == stalled => return Turn::Close(CloseReason::SlowConsumer),
                    // It is to be closed, and its time is over.
                    Err(_) => {}
                },
                () = needed => {}
            }
        }
    }

    /// Waits until everything was written, or the peer is gone.
    ///
    /// # Errors
    /// The socket's.
    pub async fn written(&self) -> io::Result<()> {
        loop {
            self.flush();
            let socket = {
                let queue = self.queue.lock();
                if queue.waiting.is_empty() { None } else { queue.socket.clone() }
            };
            match socket {
                Some(socket) => socket.writable().await?,
                None => return Ok(()),
            }
        }
    }

    /// Waits until `frames` more can be put, or half of what a replay may take when they are too many: a replay can wait, unlike live events,
    /// and has a quarter of the queue.
    pub async fn space(&self, frames: usize) {
        let frames_max = self.frames_max / 4;
        let frames = frames.min(frames_max / 2);
        let fits = || {
            let queue = self.queue.lock();
            let fits = queue.frames + frames <= frames_max && queue.bytes <= self.bytes_max / 2;
            fits || queue.close.is_some() || queue.socket.is_none()
        };
        let mut waited = false;
        while !fits() {
            let emptied = self.emptied.notified();
            self.flush();
            if !fits() {
                emptied.await;
                waited = true;
            }
        }
        if waited {
            // Another may wait too, and only one was woken.
            self.emptied.notify_one();
        }
    }
}

impl Queue {
    fn put(&mut self, frames: Frames) {
        if self.socket.is_some() {
            self.frames += frames.count();
            self.bytes += frames.bytes().len();
            self.waiting.push(frames);
        }
    }

    /// Bytes of the largest piece that waits.
    fn largest(&self) -> usize {
        let mut sizes = self.waiting.iter().map(|frames| frames.bytes().len());
        let first = sizes.next().unwrap_or(0) - self.written;
        sizes.fold(first, usize::max)
    }

    fn write(&mut self) {
        while let Some(socket) = self.socket.as_ref().filter(|_| !self.waiting.is_empty()) {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let mut skip = self.written;
            let mut used = 0;
            for (piece, frames) in pieces.iter_mut().zip(self.waiting.iter()) {
                *piece = IoSlice::new(&frames.bytes()[skip..]);
                skip = 0;
                used += 1;
            }
            match socket.try_write(&pieces[..used]) {
                Ok(written @ 1..) => {
                    self.blocked = None;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return;
                }
                Ok(0) | Err(_) => self.end(),
            }
        }
    }

    /// So many bytes are gone.
    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.waiting.first()
            && first.bytes().len() <= self.written
        {
            self.written -= first.bytes().len();
            self.frames -= first.count();
            self.waiting.drop_first();
        }
    }

    /// Drops all that waits and closes. Only what was begun is kept: a close frame cannot follow half a frame.
    fn give_up(&mut self) {
        self.waiting.keep_first(self.written > 0);
        self.frames = self.waiting.iter().map(Frames::count).sum();
        self.bytes = self.waiting.iter().map(|frames| frames.bytes().len()).sum::<usize>() - self.written;
        self.close_for(CloseReason::SlowConsumer);
    }

    /// From now on there is a time by which it is over.
    fn close_for(&mut self, reason: CloseReason) {
        self.close = Some(reason);
        self.close_by.get_or_insert_with(|| Instant::now() + GOODBYE_MAX);
    }

    fn end(&mut self) {
        (self.socket, self.blocked) = (None, None);
        (self.waiting, self.written, self.frames, self.bytes) = (Waiting::default(), 0, 0, 0);
    }
}

#[cfg(test)]
pub(crate) mod tests;
