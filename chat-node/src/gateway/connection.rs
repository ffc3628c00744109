//! One connection: carries its session's effects out, and brings back what came of them.
//!
//! One task per connection does everything for it: it reads, waits for requests, watches the clock, and waits for a socket that is
//! full. It decides nothing.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, atomic::Ordering},
    time::Duration,
};

use axum_tungstenite::{Error, Message, protocol::CloseFrame};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    pin,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Admitted, Gateway, hello_bytes_max, now_ms,
    requests::{code, within},
    websocket::WebSocket,
};
use crate::{
    event::User,
    hub::{ConnectionId, Outbound, Socket, Start, Turn},
    intake::OpenOutbox,
    metric::Metric,
    protocol::{ClientType, CloseReason, Frames, Position, ServerFrame, decode},
    session::{Effect, Input, Now, Outcome, Request, Session},
    store::Seen,
};

/// How long the client has to answer a close frame.
const CLOSE_SECONDS_MAX: Duration = Duration::from_secs(2);

pub(super) struct Connection {
    gateway: Arc<Gateway>,
    id: ConnectionId,
    session: Session,
    outbound: Arc<Outbound>,
    admitted: Admitted,
    /// Whose connection the hub knows it as.
    entered: Option<User>,
    client: ClientType,
    /// The login that it belongs to.
    login: Option<Uuid>,
    /// Requests under way, and accepted sends whose fate is waited for; each brings an input.
    requests: FuturesUnordered<BoxFuture<'static, Input>>,
    /// How many of these are accepted sends: nobody waits for their answer.
    accepted: usize,
    /// Whether it is being asked if the user is in the room of a send: what comes behind must not overtake it.
    seating: bool,
    /// The client's outbox.
    outbox: Option<Arc<OpenOutbox>>,
    /// Rooms that are being caught up with.
    following: FuturesUnordered<BoxFuture<'static, ()>>,
    /// What ends that for one of them.
    catching_up: HashMap<Uuid, CancellationToken>,
    began: Instant,
    heard: Instant,
    /// Since when neither side had anything to say: a ping, or a message that is no pong.
    quiet: Instant,
}

/// Why the loop ended: a reason of ours, or `None` when the client left.
type Ended = Option<CloseReason>;

impl Connection {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        admitted: Admitted,
        token: Option<String>,
        socket: Arc<dyn Socket>,
    ) -> Self {
        let limits = &gateway.config.limits;
        let id = ConnectionId(gateway.next.fetch_add(1, Ordering::Relaxed));
        let outbound = Arc::new(Outbound::new(socket, limits.queue_frames_max, limits.queue_bytes_max));
        gateway.open.lock().insert(id, outbound.clone());
        gateway.stats.opened();
        let now = Instant::now();
        Connection {
            id,
            session: Session::new(&gateway.node, gateway.session_limits(), token),
            outbound,
            admitted,
            entered: None,
            client: ClientType::default(),
            login: None,
            requests: FuturesUnordered::new(),
            accepted: 0,
            seating: false,
            outbox: None,
            following: FuturesUnordered::new(),
            catching_up: HashMap::new(),
            began: now,
            heard: now,
            quiet: now,
            gateway,
        }
    }

    /// Serves the connection to its end. Takes references, because a future keeps what it is given twice.
    pub(super) async fn run(&mut self, socket: &mut WebSocket) {
        let ended = self.serve(socket).await;
        self.gateway.open.lock().remove(&self.id);
        self.gateway.announcements.exit(self.id);
        if let Some(user) = &self.entered {
            self.gateway.signals.exit(user, self.id);
            self.gateway.hub.exit(user, self.id, self.session.rooms());
        }
        self.following.clear();
        self.belong(None);
        self.gateway.stats.closed(ended, self.entered.as_ref().map(|_| self.client));
        let frame = ended.map(|reason| CloseFrame { code: reason.status().into(), reason: reason.as_str().into() });
        let _ = timeout(CLOSE_SECONDS_MAX, socket.close(frame, &self.outbound)).await;
        self.outbound.end();
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> Ended {
        let outstanding_max = self.gateway.config.limits.requests_outstanding_max;
        let outbound = self.outbound.clone();
        // It fires early at worst and is then set anew, so that traffic does not have to move it.
        let clock = sleep_until(self.next_deadline());
        pin!(clock);
        loop {
            outbound.flush();
            // Nobody is obeyed any more whose connection is to be closed: the user may have been sent away.
            let reads =
                self.requests.len() - self.accepted < outstanding_max && !self.seating && !outbound.is_closing();
            tokio::select! {
                message = socket.next(&outbound), if reads => match message {
                    Ok(message) => {
                        self.heard = Instant::now();
                        // It may have come to that since the last look.
                        if !outbound.is_closing() && !self.receive(message) {
                            return None;
                        }
                    }
                    Err(error) => return matches!(error, Error::Capacity(_)).then_some(CloseReason::TooLarge),
                },
                Some(input) = self.requests.next() => {
                    self.done(input);
                    // What else is done already is answered in the same write.
                    while let Some(Some(input)) = self.requests.next().now_or_never() {
                        self.done(input);
                    }
                }
                Some(()) = self.following.next() => {
                    if self.following.is_empty() {
                        self.catching_up = HashMap::new();
                    }
                }
                turn = outbound.turn() => match turn {
                    Turn::Notices(notices) => notices.into_iter().for_each(|notice| self.handle(Input::Notice(notice))),
                    Turn::Close(reason) => return Some(reason),
                    Turn::Gone => return None,
                },
                () = &mut clock => {
                    if let Some(reason) = self.overdue() {
                        return Some(reason);
                    }
                    if self.ping_at() <= Instant::now() {
                        self.quiet = Instant::now();
                        outbound.put(Frames::ping());
                    }
                    self.handle(Input::Tick);
                    clock.as_mut().reset(self.next_deadline());
                }
            }
        }
    }

    /// Takes a message; `false` when the client closes.
    fn receive(&mut self, message: Message) -> bool {
        match message {
            Message::Text(text) if text.len() > self.frame_bytes_max() => {
                self.outbound.close(CloseReason::TooLarge, None);
            }
            Message::Text(text) => {
                self.quiet = self.heard;
                self.take(Input::Frame(decode(&text)));
            }
            Message::Binary(_) => self.take(Input::NotText),
            Message::Close(_) => return false,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        true
    }

    /// Takes a frame. One that is answered at once takes a turn of its user's afterwards, so that it has a rate as well.
    fn take(&mut self, frame: Input) {
        let under_way = self.requests.len();
        self.handle(frame);
        if self.requests.len() == under_way {
            self.owe_turn();
        }
    }

    /// While many turns are owed, nothing more is read.
    fn owe_turn(&mut self) {
        let Some(user) = self.session.user().cloned() else { return };
        if !self.gateway.has_turn(&user) {
            let gateway = self.gateway.clone();
            let in_turn = async move {
                gateway.turn(&user).await;
                Input::Tick
            };
            self.requests.push(in_turn.boxed());
        }
    }

    fn frame_bytes_max(&self) -> usize {
        let limits = &self.gateway.config.limits;
        if self.session.is_identified() { limits.frame_bytes_max } else { hello_bytes_max(limits) }
    }

    fn done(&mut self, input: Input) {
        match input {
            Input::Done(Outcome::Settled { .. }) => self.accepted -= 1,
            Input::Done(Outcome::Seated { .. }) => self.seating = false,
            _ => {}
        }
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        for effect in self.session.handle(input, Now { ms: now_ms() }) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(frame) => {
                if let Some(code) = frame.refusal() {
                    Metric::Errors.count_for(code.as_str());
                }
                self.outbound.put(Frames::text(&frame.encode()));
            }
            Effect::Close(reason) => self.outbound.close(reason, None),
            Effect::Resumed(outcome) => self.gateway.stats.resumed(outcome),
            Effect::Verify(token) => {
                let gateway = self.gateway.clone();
                let mut verify = async move { Input::Verified(gateway.verify(&token).await) }.boxed();
                // Nearly always every key is at hand, and there is nothing to wait for.
                match (&mut verify).now_or_never() {
                    Some(verified) => self.handle(verified),
                    None => self.requests.push(verify),
                }
            }
            Effect::Arrive { user, login, client, outbox, resume } => {
                self.client = client;
                self.belong(login);
                self.arrive(user, client, outbox, resume);
            }
            Effect::Belong(login) => self.belong(login),
            Effect::Announce => self.gateway.announcements.enter(self.id, &self.outbound, now_ms()),
            Effect::Follow(positions) => {
                let start = |(room, epoch, position)| {
                    let ended = CancellationToken::new();
                    self.catching_up.insert(room, ended.clone());
                    Start { room, epoch, position, ended }
                };
                let starts = positions.into_iter().map(start).collect();
                let following = self.gateway.hub.clone().follow(self.id, self.outbound.clone(), starts);
                self.following.push(following.boxed());
            }
            Effect::Unfollow(room) => {
                // Else it would go on, and follow the room in the end.
                if let Some(ended) = self.catching_up.remove(&room) {
                    ended.cancel();
                }
                self.gateway.hub.unfollow(room, self.id);
            }
            Effect::Unwatch(room) => self.gateway.signals.unwatch(room, self.id),
            Effect::Typing(room) => {
                if let Some(user) = self.session.user() {
                    self.gateway.signals.typing(room, user);
                }
            }
            Effect::Status(state) => {
                if let Some(user) = self.session.user() {
                    self.gateway.signals.set(user, self.id, state);
                }
            }
            Effect::Watch { id, room } => {
                let (gateway, connection) = (self.gateway.clone(), self.id);
                self.push_in_turn(move || gateway.watch(id, room, connection).boxed());
            }
            Effect::Show { id, room } => {
                if !self.gateway.signals.show(room, self.id, &self.outbound, id) {
                    // It was given up, and asked for again, while it was made ready.
                    self.carry_out(Effect::Reply(ServerFrame::Done { id, room: Some(room), seq: None }));
                }
            }
            Effect::Append { id, append } => {
                let sent = self.gateway.append(id, append);
                self.requests.push(sent.boxed());
            }
            Effect::Await { id, n, fate } => {
                self.accepted += 1;
                let settled = self.gateway.settled(id, n, fate);
                self.requests.push(settled.boxed());
            }
            // It was not the client who asks.
            Effect::Ask(request @ Request::Explain { .. }) => self.requests.push(self.gateway.ask(request)),
            Effect::Ask(request) => {
                self.seating |= matches!(request, Request::Seat { .. });
                let gateway = self.gateway.clone();
                self.push_in_turn(move || gateway.ask(request));
            }
        }
    }

    /// Begins a request, at once where it is its user's turn. Until then it counts as one that waits for the store.
    fn push_in_turn(&mut self, begin: impl FnOnce() -> BoxFuture<'static, Input> + Send + 'static) {
        let Some(user) = self.session.user().cloned() else { return };
        if self.gateway.has_turn(&user) {
            return self.requests.push(begin());
        }
        let gateway = self.gateway.clone();
        let in_turn = async move {
            gateway.turn(&user).await;
            begin().await
        };
        self.requests.push(in_turn.boxed());
    }

    /// The connection belongs to this login from now on.
    fn belong(&mut self, login: Option<Uuid>) {
        let former = std::mem::replace(&mut self.login, login);
        let address = self.gateway.known(self.admitted.ip).map(|address| address.to_string());
        let seen = || Seen { ms: now_ms(), client: Some(self.client.as_str()), address: address.clone() };
        if let Some(former) = former {
            self.gateway.logins.exit(former, self.id, seen());
        }
        if let Some(login) = login {
            self.gateway.logins.enter(login, self.id, &self.outbound, seen());
        }
    }

    fn arrive(&mut self, user: User, client: ClientType, outbox: Option<Uuid>, resume: Vec<Position>) {
        if let Err(refusal) = self.admitted.identify(client) {
            Metric::Refusals.count_for(refusal.as_str());
            self.outbound.close(CloseReason::TooMany, None);
            return;
        }
        self.gateway.stats.identified(client);
        // First the hub, then the store: a membership that changes in between is told by one of them.
        self.gateway.hub.enter(&user, self.id, &self.outbound);
        self.gateway.signals.enter(&user, self.id, client);
        self.entered = Some(user.clone());
        let store = self.gateway.store.clone();
        let opened = outbox.map(|outbox| Arc::new(self.gateway.intake.open(&user, outbox)));
        self.outbox.clone_from(&opened);
        let arrive = async move {
            let arrival = within(store.arrive(&user, outbox, &resume, now_ms())).await;
            if let (Some(opened), Ok(arrival)) = (opened, &arrival) {
                opened.found(arrival.outbox_last);
            }
            Input::Arrived(arrival.map_err(|error| code(&error)))
        };
        self.requests.push(arrive.boxed());
    }

    fn ping_at(&self) -> Instant {
        on_beat(self.quiet + Duration::from_secs(self.gateway.config.limits.ping_seconds))
    }

    fn idle_after(&self) -> Duration {
        let limits = &self.gateway.config.limits;
        Duration::from_secs(match self.client {
            ClientType::Web => limits.web_idle_seconds,
            ClientType::Mobile => limits.mobile_idle_seconds,
        })
    }

    fn hello_by(&self) -> Option<Instant> {
        let hello = Duration::from_secs(self.gateway.config.limits.hello_seconds);
        (!self.session.is_identified()).then(|| self.began + hello)
    }

    fn next_deadline(&self) -> Instant {
        let idle = self.heard + self.idle_after();
        self.hello_by().into_iter().fold(self.ping_at().min(idle), Instant::min)
    }

    fn overdue(&self) -> Option<CloseReason> {
        if self.hello_by().is_some_and(|by| by <= Instant::now()) {
            return Some(CloseReason::NoHello);
        }
        (self.heard.elapsed() >= self.idle_after()).then_some(CloseReason::Idle)
    }
}

/// The next beat of the process. What many connections do now and then, those do together whose turn is near: waking up costs more than a
/// ping.
fn on_beat(at: Instant) -> Instant {
    const BEAT_MS: u64 = 250;
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = u64::try_from(at.saturating_duration_since(*BEGAN).as_millis()).unwrap_or(u64::MAX);
    *BEGAN + Duration::from_millis(since.saturating_add(1).next_multiple_of(BEAT_MS))
}
