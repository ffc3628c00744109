//! The way out, before a socket that takes what a test lets it take.

use futures::FutureExt;

use tokio::time::timeout;

use super::*;

/// A socket that takes as many bytes as it is allowed to, and keeps them.
#[derive(Clone, Default)]
pub(crate) struct Script {
    taken: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<usize>>,
    allowed: Arc<Mutex<usize>>,
    changed: Arc<Notify>,
}

impl Script {
    pub(crate) fn allow(&self, bytes: usize) {
        let mut allowed = self.allowed.lock();
        *allowed = allowed.saturating_add(bytes);
        self.changed.notify_one();
    }

    /// The payloads of the short text frames that were taken.
    pub(crate) fn texts(&self) -> Vec<String> {
        let taken = self.taken.lock();
        let (mut texts, mut rest) = (Vec::new(), &taken[..]);
        while let [0x81, length, tail @ ..] = rest {
            let (text, tail) = tail.split_at(usize::from(*length));
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            rest = tail;
        }
        assert!(rest.is_empty(), "half a frame was written: {rest:?}");
        texts
    }

    /// How often something was written.
    pub(crate) fn writes(&self) -> usize {
        *self.writes.lock()
    }

    /// Likewise, and forgets them.
    pub(crate) fn take_texts(&self) -> Vec<String> {
        let texts = self.texts();
        self.taken.lock().clear();
        texts
    }
}

impl Socket for Script {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut allowed = self.allowed.lock();
        if *allowed == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(*allowed).collect();
        *allowed -= bytes.len();
        *self.writes.lock() += 1;
        self.taken.lock().extend(&bytes);
        Ok(bytes.len())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        self.changed.notified().map(Ok).boxed()
    }
}

/// A connection, and the socket that shows what it was given. It takes nothing until it is allowed to.
pub(crate) fn outbound(frames_max: usize, bytes_max: usize) -> (Arc<Outbound>, Script) {
    let socket = Script::default();
    (Arc::new(Outbound::new(Arc::new(socket.clone()), frames_max, bytes_max)), socket)
}

#[test]
fn a_free_socket_takes_everything_at_once() {
    let (outbound, socket) = outbound(1, 1);
    socket.allow(1_000);
    for text in ["a", "b", "c"] {
        outbound.push(text);
    }
    assert_eq!(socket.texts(), ["a", "b", "c"]);
    assert!(!outbound.is_closing());
}

#[test]
fn a_full_queue_closes_the_connection_and_keeps_nothing() {
    for (frames_max, bytes_max) in [(2, 100), (100, 5)] {
        let (outbound, socket) = outbound(frames_max, bytes_max);
        (0..3).for_each(|_| outbound.push("x"));
        socket.allow(1_000);
        outbound.flush();
        assert!(socket.texts().is_empty());
        assert_eq!(outbound.turn().now_or_never(), Some(Turn::Close(CloseReason::SlowConsumer)));
    }
}

#[test]
fn one_large_answer_is_no_slow_client() {
    let large = "x".repeat(100);
    for (texts, closes) in [
        (vec![large.as_str()], false),
        (vec!["a", &large, "b"], false),
        (vec![&large, "a", "b", "c", "d", "e"], true),
        (vec![&large, &large], true),
    ] {
        let (outbound, socket) = outbound(100, 14);
        texts.iter().for_each(|text| outbound.push(text));
        assert_eq!(outbound.is_closing(), closes, "{texts:?}");
        socket.allow(3);
        outbound.flush();
        assert_eq!(outbound.is_closing(), closes, "{texts:?}, begun");
    }
}

#[tokio::test]
async fn wherever_the_socket_stops_the_frames_stay_whole() {
    for stop in 0..12 {
        let (outbound, socket) = outbound(3, 1_000);
        socket.allow(stop);
        (0..7).for_each(|_| outbound.push("x"));
        assert!(outbound.is_closing(), "more than three wait behind {stop} bytes");
        socket.allow(1_000);
        assert_eq!(outbound.turn().await, Turn::Close(CloseReason::SlowConsumer));
        assert_eq!(socket.texts().len(), usize::div_ceil(stop, 3), "the frame that was begun at {stop} is ended");
    }
}

#[test]
fn what_can_be_missed_never_fills_a_queue() {
    let (outbound, socket) = outbound(4, 100);
    (0..9).for_each(|_| outbound.offer(&Frames::text("x")));
    socket.allow(1_000);
    outbound.flush();
    assert_eq!(socket.texts(), ["x", "x"]);
    assert!(!outbound.is_closing());
}

#[tokio::test]
async fn an_ended_connection_lets_go_of_its_socket_whoever_holds_it() {
    let (outbound, socket) = outbound(4, 100);
    outbound.push("x");
    let held = Arc::downgrade(outbound.queue.lock().socket.as_ref().unwrap());
    outbound.end();
    outbound.push("late");
    assert!(held.upgrade().is_none() && outbound.is_closing() && socket.texts().is_empty());
    assert_eq!(outbound.turn().await, Turn::Gone);
}

#[tokio::test]
async fn a_close_keeps_what_was_queued_and_takes_nothing_more() {
    let (outbound, socket) = outbound(10, 100);
    outbound.put(Frames::text("a"));
    outbound.close(CloseReason::Leaving, Some("bye"));
    outbound.put(Frames::text("late"));
    outbound.close(CloseReason::Idle, None);
    socket.allow(1_000);
    assert_eq!(outbound.turn().await, Turn::Close(CloseReason::Leaving));
    assert_eq!(socket.texts(), ["a", "bye"]);
}

#[tokio::test]
async fn what_a_full_socket_left_is_written_when_it_has_room() {
    let (outbound, socket) = outbound(10, 100);
    (0..3).for_each(|_| outbound.push("x"));
    let close = async {
        socket.allow(4);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(socket.taken.lock().len(), 4);
        socket.allow(1_000);
        outbound.close(CloseReason::Idle, None);
    };
    let (turn, ()) = tokio::join!(outbound.turn(), close);
    assert_eq!(turn, Turn::Close(CloseReason::Idle));
    assert_eq!(socket.texts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_nothing_for_long_is_given_up() {
    let (outbound, _socket) = outbound(10, 100);
    outbound.push("x");
    assert_eq!(outbound.turn().await, Turn::Close(CloseReason::SlowConsumer));
}

#[tokio::test]
async fn a_replay_waits_for_space() {
    let (outbound, socket) = outbound(16, 100);
    (0..3).for_each(|_| outbound.push("x"));
    tokio::join!(outbound.space(2), async {
        tokio::task::yield_now().await;
        socket.allow(1_000);
        outbound.flush();
    });
    assert_eq!(socket.texts().len(), 3);
}

/// As for a client that has entered several rooms at once.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_space_has_it_however_many_wait() {
    let (outbound, socket) = outbound(16, 100);
    (0..4).for_each(|_| outbound.push("x"));
    let replays = async { tokio::join!(outbound.space(2), outbound.space(1), outbound.space(2)) };
    tokio::join!(timeout(STALL_MAX, replays).map(|waited| waited.expect("one was woken, and not the others")), async {
        tokio::task::yield_now().await;
        socket.allow(1_000);
        outbound.flush();
    });
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_is_over_in_time_however_slowly_its_client_reads() {
    let (outbound, socket) = outbound(100, 1_000);
    (0..100).for_each(|_| outbound.push("x"));
    outbound.close(CloseReason::SignedOut, None);
    let trickle = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            socket.allow(1);
            outbound.notice(Notice::All(Vec::new()));
        }
    };
    let began = Instant::now();
    let ended = async {
        loop {
            if let Turn::Close(reason) = outbound.turn().await {
                return reason;
            }
        }
    };
    tokio::select! {
        reason = ended => assert_eq!(reason, CloseReason::SignedOut),
        () = trickle => panic!("a client that reads a byte a second keeps its connection"),
    }
    assert!(began.elapsed() <= GOODBYE_MAX + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_connection_that_is_closed_answers_no_ping() {
    let (outbound, socket) = outbound(10, 100);
    socket.allow(1_000);
    outbound.close(CloseReason::Idle, Some("bye"));
    outbound.send(Frames::encoded(&[0x8a, 0]));
    assert_eq!(outbound.turn().now_or_never(), Some(Turn::Close(CloseReason::Idle)));
    assert_eq!(socket.texts(), ["bye"], "and nothing behind it");
}
