//! Many clients in many rooms, who talk at a steady rate while something happens to their servers.
//!
//! A crowd is judged at its end by [`crate::checker`]; until then it only talks and keeps records.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use uuid::Uuid;

use crate::{
    checker::{self, Histories, Report},
    client::{Client, Identity, Options},
    dial::Dial,
    frame::{Event, Page, RoomRef},
    record::{Record, Recorder},
    rest,
};

/// Rooms that each client joins, when there are so many.
const ROOMS_EACH: usize = 3;
/// Password hashes that the servers are asked for at once: each is costly on purpose.
const HASHES_AT_ONCE: usize = 4;
/// Events asked for in one page of history.
const PAGE_EVENTS: u32 = 100;
/// All are connected and in their rooms by then.
const GATHER_WITHIN: Duration = Duration::from_secs(60);

/// One in so many messages is a mistake, in a crowd that errs: no multiple of any number of members, so that each of them errs.
const MISTAKES_EVERY: usize = 47;

/// Clients in rooms.
pub struct Crowd {
    members: Vec<Member>,
    errs: bool,
}

/// One of the crowd.
pub struct Member {
    /// The client.
    pub client: Client,
    /// What it saw.
    pub recorder: Recorder,
    /// The rooms that it talks in.
    pub rooms: Vec<Uuid>,
}

/// Registers accounts that were never there before, over `dial`.
///
/// # Errors
/// When the server refuses one.
pub async fn newcomers(dial: &dyn Dial, prefix: &str, count: usize) -> anyhow::Result<Vec<Identity>> {
    let password = Uuid::new_v4().to_string();
    let unique = &Uuid::new_v4().simple().to_string()[..8];
    stream::iter(0..count)
        .map(|index| {
            let (username, password) = (format!("{prefix}-{unique}-{index}"), password.clone());
            async move {
                rest::register(dial, &username, &password).await.with_context(|| format!("register {username}"))?;
                Ok(Identity::Account { username, password })
            }
        })
        .buffered(HASHES_AT_ONCE)
        .try_collect()
        .await
}

impl Crowd {
    /// Connects a client for each identity over `dial`, and spreads them over `rooms` new rooms.
    ///
    /// # Errors
    /// When one cannot connect or join in time.
    pub async fn gather(dial: &Arc<dyn Dial>, identities: Vec<Identity>, rooms: usize) -> anyhow::Result<Self> {
        let deadline = Instant::now() + GATHER_WITHIN;
        let gathered = timeout_at(deadline, Self::gather_in_time(dial, identities, rooms)).await;
        gathered.with_context(|| format!("not all were connected and in their rooms within {GATHER_WITHIN:?}"))?
    }

    async fn gather_in_time(dial: &Arc<dyn Dial>, identities: Vec<Identity>, rooms: usize) -> anyhow::Result<Self> {
        let mut members: Vec<Member> = identities
            .into_iter()
            .map(|identity| {
                let recorder = Recorder::default();
                let client = Client::start(Options::new(dial.clone(), identity), recorder.clone());
                Member { client, recorder, rooms: Vec::new() }
            })
            .collect();
        let first = members.first().context("a crowd needs at least one client")?.client.clone();
        let mut ids = Vec::new();
        for _ in 0..rooms {
            let name = format!("room-{}", Uuid::new_v4().simple());
            ids.push(first.create_room(name).await.context("create a room")?.id);
        }
        for (index, member) in members.iter_mut().enumerate() {
            member.client.online().await.context("connect")?;
            for offset in 0..ROOMS_EACH.min(rooms) {
                let room = ids[(index + offset) % rooms];
                member.client.join(RoomRef::Room(room)).await.context("join a room")?;
                member.rooms.push(room);
            }
        }
        Ok(Crowd { members, errs: false })
    }

    /// The same crowd, whose members now and then say something that is refused, and uses its number up all the same.
    pub fn that_errs(self) -> Self {
        Crowd { errs: true, ..self }
    }

    /// Those who are in it.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What all have seen so far.
    pub fn records(&self) -> Vec<Record> {
        self.members.iter().map(|member| member.recorder.look().clone()).collect()
    }

    /// Talks at `rate` messages a second in all, evenly, until `over` is done. Gives what that gave.
    ///
    /// # Errors
    /// When a client has ended.
    pub async fn talk_during<T>(&self, rate: f64, over: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let talk = async {
            for turn in 0.. {
                ticks.tick().await;
                self.say(turn).await?;
            }
            anyhow::Ok(())
        };
        tokio::pin!(over);
        tokio::select! {
            done = &mut over => Ok(done),
            talked = talk => Err(talked.err().context("the talk ended by itself")?),
        }
    }

    /// Lets a member go away for good, in the middle of whatever it is doing.
    pub async fn part(&self, index: usize) {
        let member = &self.members[index];
        member.recorder.part();
        member.client.clone().close().await;
    }

    /// Those who have not parted.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.recorder.look().parted)
    }

    async fn say(&self, turn: usize) -> anyhow::Result<()> {
        let member = &self.members[turn % self.members.len()];
        if member.recorder.look().parted {
            return Ok(());
        }
        let room = member.rooms[(turn / self.members.len()) % member.rooms.len()];
        let text =
            if self.errs && turn.is_multiple_of(MISTAKES_EVERY) { String::new() } else { format!("message {turn}") };
        // Its fate is in the record.
        match member.client.send(room, text).await {
            Err(_) if member.recorder.look().parted => Ok(()),
            sent => sent.map(drop).context("a client has ended"),
        }
    }

    /// Waits until every message has its fate and every member has seen all of its rooms, then judges, and ends the clients.
    ///
    /// # Errors
    /// When a history cannot be read. That not everything came in time is no error but in the report.
    pub async fn judge(self, within: Duration) -> anyhow::Result<(Report, Vec<Record>)> {
        let deadline = Instant::now() + within;
        for member in self.present() {
            let left = deadline.saturating_duration_since(Instant::now());
            member.recorder.until(left, |record| (record.undecided() == 0).then_some(())).await;
        }
        let histories = timeout_at(deadline.max(Instant::now() + within), self.histories()).await;
        let histories = histories.context("the histories were not read in time")??;
        for member in self.present() {
            for room in &member.rooms {
                let head = histories.get(room).and_then(|log| log.last()).map_or(0, |event| event.seq);
                let left = deadline.saturating_duration_since(Instant::now());
                member.recorder.until(left, |record| record.has_reached(*room, head).then_some(())).await;
            }
        }
        let records = self.records();
        for member in self.members {
            member.client.close().await;
        }
        Ok((checker::check(&records, &histories), records))
    }

    async fn histories(&self) -> anyhow::Result<Histories> {
        let mut histories = Histories::new();
        for member in self.present() {
            for room in &member.rooms {
                if !histories.contains_key(room) {
                    histories.insert(*room, history(&member.client, *room).await?);
                }
            }
        }
        Ok(histories)
    }
}

/// Reads a room's log from 1 to its end.
///
/// # Errors
/// When the server refuses, or gives a page that leads nowhere.
pub async fn history(client: &Client, room: Uuid) -> anyhow::Result<Vec<Event>> {
    let mut log: Vec<Event> = Vec::new();
    loop {
        let after = log.last().map_or(0, |event| event.seq);
        let page = Page { before: None, after: Some(after), limit: PAGE_EVENTS };
        let page = client.history(room, page).await.with_context(|| format!("read the history of room {room}"))?;
        if page.more && page.events.is_empty() {
            bail!("the history of room {room} has more after {after}, but gives none of it");
        }
        log.extend(page.events);
        if !page.more {
            return Ok(log);
        }
    }
}
