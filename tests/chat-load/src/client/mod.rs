//! A client of the protocol, as a person would want it: it keeps what it sends until that is committed, comes back by
//! itself after whatever happened, and goes on where it was.
//!
//! | module | what it is |
//! |---|---|
//! | [`core`] | what it decides, pure; with [`outbox`], [`rooms`] and [`backoff`] |
//! | [`signing`] | its tokens, and the next one in time |
//! | [`link`] | one WebSocket connection |
//! | [`task`] | the loop between the two, one task a client |
//! | [`observe`] | what it tells of itself |
//!
//! A [`Client`] is a handle; the client ends when the last one is dropped.

mod backoff;
mod core;
#[cfg(test)]
mod core_tests;
mod link;
mod observe;
mod outbox;
mod rooms;
mod signing;
mod task;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::{core::Ask, task::Command};
use crate::{
    dial::Dial,
    frame::{ClientType, Committed, History, Page, Refusal, Room, RoomRef},
};

pub use self::{
    backoff::End,
    observe::{Observation, Observer},
};

/// Requests that wait to be taken by the client's task; beyond, the caller waits.
const COMMANDS_MAX: usize = 64;

/// How a client presents itself.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A token that cannot be renewed.
    Token(String),
    /// An account, whose token is renewed before it expires, without another connection.
    Account {
        /// Name of the account.
        username: String,
        /// Its password.
        password: String,
    },
}

/// What a client needs to know.
#[derive(Clone)]
pub struct Options {
    /// How it reaches a node.
    pub dial: Arc<dyn Dial>,
    /// Who it is.
    pub identity: Identity,
    /// Which limits hold for it.
    pub client_type: ClientType,
    /// Its outbox. A client that kept nothing of an earlier life takes a new id.
    pub outbox: Uuid,
}

impl Options {
    /// A web client with a new outbox.
    pub fn new(dial: Arc<dyn Dial>, identity: Identity) -> Self {
        Options { dial, identity, client_type: ClientType::Web, outbox: Uuid::new_v4() }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server said no.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Refusal),
    /// The connection ended before the answer, and asking again could do it twice.
    #[error("the connection ended before the answer: look whether it was done")]
    Interrupted,
    /// The message was first tried so long ago that repeating it could say it twice.
    #[error("it was first tried too long ago to be repeated: look in the room's history whether it was taken")]
    Expired,
    /// The client has ended.
    #[error("the client has ended")]
    Stopped,
    /// The server gave an answer of another kind.
    #[error("the server answered another question")]
    WrongAnswer,
}

/// The answer to a request.
#[derive(Clone, Debug)]
enum Answer {
    Room(Room),
    Left,
    History(History),
    Pong,
    Committed(Committed),
}

/// Where a client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not connected, and working on it.
    Away,
    /// Connected.
    Online {
        /// Name of the node.
        node: String,
        /// Which connection of this client it is, from 1.
        connection: usize,
    },
    /// It will not come back.
    Stopped(End),
}

type Ticket = oneshot::Sender<Result<Answer, Failure>>;

/// A running client. Clones are handles to the same one.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    standing: watch::Receiver<Standing>,
}

/// A message that is in the outbox.
#[must_use = "a message may be refused"]
pub struct Pending(oneshot::Receiver<Result<Answer, Failure>>);

impl Pending {
    /// Waits until the message has its place.
    ///
    /// # Errors
    /// When it was refused for good, or the client ended before its fate was known.
    pub async fn committed(self) -> Result<Committed, Failure> {
        match self.0.await.map_err(|_| Failure::Stopped)?? {
            Answer::Committed(committed) => Ok(committed),
            _ => Err(Failure::WrongAnswer),
        }
    }
}

impl Client {
    /// Starts a client; it connects on its own.
    pub fn start(options: Options, observer: impl Observer) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (stand, standing) = watch::channel(Standing::Away);
        tokio::spawn(task::run(options, observer, received, stand));
        Client { commands, standing }
    }

    /// Waits until the client is connected. Gives the node's name.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn online(&self) -> Result<String, Failure> {
        let mut standing = self.standing.clone();
        let reached = standing.wait_for(|standing| *standing != Standing::Away).await;
        match reached.as_deref() {
            Ok(Standing::Online { node, .. }) => Ok(node.clone()),
            Ok(Standing::Away | Standing::Stopped(_)) | Err(_) => Err(Failure::Stopped),
        }
    }

    /// Waits until the client has ended, by itself or because it was closed. Gives the reason.
    ///
    /// # Errors
    /// When its task is gone without one.
    pub async fn stopped(&self) -> Result<End, Failure> {
        let mut standing = self.standing.clone();
        let reached = standing.wait_for(|standing| matches!(standing, Standing::Stopped(_))).await;
        match reached.as_deref() {
            Ok(Standing::Stopped(end)) => Ok(end.clone()),
            Ok(_) | Err(_) => Err(Failure::Stopped),
        }
    }

    /// Where the client stands now.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Puts a message into the outbox, which keeps it until its fate is known. Waits only while the outbox is full.
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn send(&self, room: Uuid, text: impl Into<String>) -> Result<Pending, Failure> {
        let (ticket, pending) = oneshot::channel();
        self.command(Command::Send { room, text: text.into(), ticket }).await?;
        Ok(Pending(pending))
    }

    /// Makes a public room and joins it.
    ///
    /// # Errors
    /// See [`Failure`]; `room_exists` when the name is taken.
    pub async fn create_room(&self, name: impl Into<String>) -> Result<Room, Failure> {
        room(self.ask(Ask::CreateRoom(name.into())).await?)
    }

    /// Joins a room.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn join(&self, which: RoomRef) -> Result<Room, Failure> {
        room(self.ask(Ask::Join(which)).await?)
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn leave(&self, room: Uuid) -> Result<(), Failure> {
        match self.ask(Ask::Leave(room)).await? {
            Answer::Left => Ok(()),
            _ => Err(Failure::WrongAnswer),
        }
    }

    /// Opens the direct room with a user.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn direct(&self, user: impl Into<String>) -> Result<Room, Failure> {
        room(self.ask(Ask::Direct(user.into())).await?)
    }

    /// Reads a page of a room's log.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn history(&self, room: Uuid, page: Page) -> Result<History, Failure> {
        match self.ask(Ask::History { room, page }).await? {
            Answer::History(history) => Ok(history),
            _ => Err(Failure::WrongAnswer),
        }
    }

    /// Waits for a sign of life.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ping(&self) -> Result<(), Failure> {
        match self.ask(Ask::Ping).await? {
            Answer::Pong => Ok(()),
            _ => Err(Failure::WrongAnswer),
        }
    }

    /// Breaks the connection without a word, as a lost network does. The client comes back.
    pub async fn cut(&self) {
        // A client that has ended has no connection to break.
        let _ = self.command(Command::Cut).await;
    }

    /// Ends the client in good order and waits until it has.
    pub async fn close(self) {
        let _ = self.command(Command::Close).await;
        let mut standing = self.standing.clone();
        // An error means that the task is gone already.
        let _ = standing.wait_for(|standing| matches!(standing, Standing::Stopped(_))).await;
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        let (ticket, answer) = oneshot::channel();
        self.command(Command::Ask { ask, ticket }).await?;
        answer.await.map_err(|_| Failure::Stopped)?
    }

    async fn command(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).await.map_err(|_| Failure::Stopped)
    }
}

fn room(answer: Answer) -> Result<Room, Failure> {
    match answer {
        Answer::Room(room) => Ok(room),
        _ => Err(Failure::WrongAnswer),
    }
}
