//! The loop of a client: commands and frames into [`Core`], its decisions out to the [`Link`], the tickets and the observer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    End, Observation, Observer, Options, Standing, Ticket,
    backoff::{Backoff, Next, full_jitter_bound},
    core::{Ask, Core, Effect},
    link::Link,
    signing::Signing,
};
use crate::{
    frame::{ClientType, Frame},
    rest::{RestError, SignedIn},
};

/// Requests and sends without an outcome; beyond, callers wait.
const UNFINISHED_MAX: usize = 1_024;
/// The welcome has come by then, or the attempt has failed.
const WELCOME_WITHIN: Duration = Duration::from_secs(20);
/// What arrived before a connection broke is read by then.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// Bounds of the random wait after a retryable refusal of a send.
const PAUSE_BASE: Duration = Duration::from_millis(50);
const PAUSE_CEILING: Duration = Duration::from_secs(5);

/// What a handle asks of its client.
pub(super) enum Command {
    Send { room: Uuid, text: String, ticket: Ticket },
    Ask { ask: Ask, ticket: Ticket },
    Cut,
    Close,
}

/// What a handle's command means for the connection.
enum Wish {
    GoOn,
    Cut,
    Close,
}

/// Runs a client until it is closed, dropped, or has no reason to come back.
pub(super) async fn run(
    options: Options,
    observer: impl Observer,
    commands: mpsc::Receiver<Command>,
    standing: watch::Sender<Standing>,
) {
    let core = Core::new(options.outbox);
    let signing = Signing::new(options.dial.clone(), options.identity.clone());
    let mut task =
        Task { options, observer, commands, standing, core, signing, connection: 0, present: Present::default() };
    let end = task.until_stopped().await;
    let effects = task.core.stopped();
    task.tell(&Observation::Stopped);
    task.standing.send_replace(Standing::Stopped(end));
    for effect in effects {
        task.carry_out(effect);
    }
}

struct Task<O> {
    options: Options,
    observer: O,
    commands: mpsc::Receiver<Command>,
    standing: watch::Sender<Standing>,
    core: Core<Ticket>,
    signing: Signing,
    /// Number of the latest connection that was welcomed.
    connection: usize,
    present: Present,
}

/// What is known of the present connection.
#[derive(Default)]
struct Present {
    /// Since when it is welcome.
    welcomed: Option<Instant>,
    /// The node leaves; this is when to come back, in milliseconds after the close.
    after_ms: Option<u64>,
    /// Nothing of the outbox is sent before.
    paused_until: Option<Instant>,
    /// What ends it from our side.
    violation: Option<String>,
}

impl<O: Observer> Task<O> {
    async fn until_stopped(&mut self) -> End {
        let mut backoff = Backoff::default();
        loop {
            self.present = Present::default();
            let end = self.attempt().await;
            let lasted = self.present.welcomed.map(|since| since.elapsed());
            let next = backoff.after(&end, lasted, rand::random());
            self.tell(&Observation::Ended(end.clone()));
            self.standing.send_replace(Standing::Away);
            for effect in self.core.disconnected(now_ms()) {
                self.carry_out(effect);
            }
            match next {
                Next::Stop => return end,
                Next::Again { after, renew } => {
                    if renew {
                        if !self.signing.is_renewable() {
                            return end;
                        }
                        self.signing.expired();
                    }
                    if let Wish::Close = self.wait(after).await {
                        return End::Wanted;
                    }
                }
            }
        }
    }

    /// Waits without a connection; commands are taken meanwhile.
    async fn wait(&mut self, time: Duration) -> Wish {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Wish::GoOn,
                command = self.commands.recv(), if self.core.unfinished() < UNFINISHED_MAX => {
                    if let Wish::Close = self.command(command) {
                        return Wish::Close;
                    }
                }
            }
        }
    }

    /// One connection, from the dial to its end.
    async fn attempt(&mut self) -> End {
        let opened = async {
            let token = self.signing.token().await?;
            Ok::<_, End>((token, Link::open(&*self.options.dial, silence(self.options.client_type)).await?))
        };
        let (token, mut link) = match opened.await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        for effect in self.core.expire(now_ms()) {
            self.carry_out(effect);
        }
        let hello = self.core.hello(token, self.options.client_type);
        if let Err(end) = link.write([hello].into_iter()).await {
            return end;
        }
        match timeout(WELCOME_WITHIN, link.read()).await {
            Err(_) => End::Lost(format!("no welcome within {WELCOME_WITHIN:?}")),
            Ok(Ok(frame)) => self.talk(link, frame).await,
            Ok(Err(end)) => end,
        }
    }

    /// Frames in and out until the connection ends.
    async fn talk(&mut self, mut link: Link, first: Frame) -> End {
        let mut frame = Some(first);
        let mut refreshing: Option<BoxFuture<'static, Result<SignedIn, RestError>>> = None;
        loop {
            for effect in frame.take().map(|frame| self.core.take(frame)).into_iter().flatten() {
                self.carry_out(effect);
            }
            if let Some(what) = self.present.violation.take() {
                link.close().await;
                return End::Lost(format!("the server broke the protocol: {what}"));
            }
            let core = &mut self.core;
            if let Err(end) = link.write(std::iter::from_fn(|| core.next(now_ms()))).await {
                return self.last_words(link, end).await;
            }
            tokio::select! {
                read = link.read() => match read {
                    Ok(read) => frame = Some(read),
                    Err(End::Closed { code, reason, .. }) => {
                        link.close().await;
                        return End::Closed { code, reason, after_ms: self.present.after_ms };
                    }
                    Err(end) => return end,
                },
                command = self.commands.recv(), if self.core.unfinished() < UNFINISHED_MAX => match self.command(command) {
                    Wish::GoOn => {}
                    Wish::Cut => {
                        link.cut();
                        return End::Lost("cut by the client".into());
                    }
                    Wish::Close => {
                        link.close().await;
                        return End::Wanted;
                    }
                },
                refreshed = ended(&mut refreshing), if refreshing.is_some() => {
                    refreshing = None;
                    // Without another token the connection goes on until the present one expires.
                    if let Ok(token) = self.signing.refreshed(refreshed) {
                        self.core.renew(token);
                    }
                }
                () = until(self.signing.due()), if self.signing.due().is_some() && refreshing.is_none() => {
                    refreshing = Some(self.signing.refresh().boxed());
                }
                () = until(self.present.paused_until), if self.present.paused_until.is_some() => {
                    self.present.paused_until = None;
                    self.core.go_on();
                }
            }
        }
    }

    /// The other side is gone, but what it said before, such as why, may have arrived.
    async fn last_words(&mut self, mut link: Link, end: End) -> End {
        let words = async {
            loop {
                match link.read().await {
                    Ok(frame) => self.core.take(frame).into_iter().for_each(|effect| self.carry_out(effect)),
                    Err(End::Closed { code, reason, .. }) => {
                        return End::Closed { code, reason, after_ms: self.present.after_ms };
                    }
                    Err(_) => return end.clone(),
                }
            }
        };
        timeout(LAST_WORDS_WITHIN, words).await.unwrap_or(end.clone())
    }

    fn command(&mut self, command: Option<Command>) -> Wish {
        match command {
            None | Some(Command::Close) => return Wish::Close,
            Some(Command::Cut) => return Wish::Cut,
            Some(Command::Ask { ask, ticket }) => self.core.ask(ask, ticket),
            Some(Command::Send { room, text, ticket }) => {
                let effect = self.core.send(room, text, ticket);
                self.carry_out(effect);
            }
        }
        Wish::GoOn
    }

    fn carry_out(&mut self, effect: Effect<Ticket>) {
        match effect {
            // Whoever asked may have stopped waiting.
            Effect::Done(ticket, outcome) => drop(ticket.send(outcome)),
            Effect::Tell(what) => {
                if let Observation::Connected { welcome, .. } = &what {
                    self.connection += 1;
                    self.present.welcomed = Some(Instant::now());
                    let online = Standing::Online { node: welcome.node.clone(), connection: self.connection };
                    self.standing.send_replace(online);
                }
                self.tell(&what);
            }
            Effect::Pause { attempt, at_least_ms } => {
                let wait = pause(attempt).max(Duration::from_millis(at_least_ms));
                self.present.paused_until = Some(Instant::now() + wait);
            }
            Effect::ComeBack { after_ms } => self.present.after_ms = Some(after_ms),
            Effect::Violation(what) => self.present.violation = Some(what),
        }
    }

    fn tell(&mut self, what: &Observation) {
        self.observer.observe(now_ms(), self.connection, what);
    }
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(now).unwrap_or(u64::MAX)
}

async fn ended<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        sleep_until(moment).await;
    }
}

/// How long a server may be silent: it sends pings well within its own idle time.
fn silence(client: ClientType) -> Duration {
    match client {
        ClientType::Web => Duration::from_secs(60),
        ClientType::Mobile => Duration::from_secs(120),
    }
}

fn pause(attempt: u32) -> Duration {
    full_jitter_bound(PAUSE_BASE, PAUSE_CEILING, attempt).mul_f64(rand::random())
}
