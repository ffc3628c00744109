//! People who talk, and the proof from what they saw.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use chat_load::{
    checker::{self, Histories, Report},
    client::{Client, Identity, Options},
    dial::Dial,
    frame::{Event, Page, RoomRef},
    record::{Record, Recorder},
    rest,
};
use futures::future::try_join_all;
use tokio::time::timeout;
use uuid::Uuid;

/// How long anything between people and nodes may take, a rollout included.
const PATIENCE: Duration = Duration::from_secs(60);

/// People who arrive at the same time: each has a password, whose hash is made to be slow.
const ARRIVALS_AT_ONCE: usize = 16;

const PASSWORD: &str = "correct horse battery";

/// One person.
pub struct Person {
    /// The running client.
    pub client: Client,
    /// What it saw.
    pub recorder: Recorder,
    /// The name.
    pub name: String,
}

/// People in one room.
pub struct Party {
    /// Everybody; the first one made the room.
    pub people: Vec<Person>,
    /// The room.
    pub room: Uuid,
}

impl Person {
    /// Registers somebody of a new name and connects.
    ///
    /// # Errors
    /// When that does not succeed in time.
    pub async fn arrive(dial: &Arc<dyn Dial>) -> Result<Person> {
        let name = format!("p{}", &Uuid::new_v4().simple().to_string()[..12]);
        rest::register(&**dial, &name, PASSWORD).await.context("cannot register")?;
        let identity = Identity::Account { username: name.clone(), password: PASSWORD.into() };
        let recorder = Recorder::default();
        let client = Client::start(Options::new(dial.clone(), identity), recorder.clone());
        timeout(PATIENCE, client.online()).await.context("cannot connect in time")??;
        Ok(Person { client, recorder, name })
    }

    /// Says something and waits until it is committed.
    ///
    /// # Errors
    /// When it is refused, or takes too long.
    pub async fn say(&self, room: Uuid, text: &str) -> Result<u64> {
        let pending = self.client.send(room, text).await?;
        let committed = timeout(PATIENCE, pending.committed()).await.context("nothing is committed in time")??;
        Ok(committed.seq)
    }

    /// Waits until a text was heard.
    ///
    /// # Errors
    /// When it was not in time.
    pub async fn hear(&self, text: &str) -> Result<()> {
        let heard =
            |record: &Record| record.events.iter().any(|seen| seen.event.text.as_deref() == Some(text)).then_some(());
        self.recorder.until(PATIENCE, heard).await.with_context(|| format!("{} never heard {text:?}", self.name))
    }
}

impl Party {
    /// Gathers people, each on a connection of their own.
    ///
    /// # Errors
    /// When one cannot come.
    pub async fn gather(dials: &[Arc<dyn Dial>]) -> Result<Party> {
        let mut people = Vec::new();
        for dials in dials.chunks(ARRIVALS_AT_ONCE) {
            people.extend(try_join_all(dials.iter().map(Person::arrive)).await?);
        }
        let first = people.first().context("a party of nobody")?;
        let name = format!("room {}", Uuid::new_v4());
        let room = first.client.create_room(name).await?.id;
        for person in &people[1..] {
            person.client.join(RoomRef::Room(room)).await?;
        }
        Ok(Party { people, room })
    }

    /// The first two greet each other.
    ///
    /// # Errors
    /// When one does not hear the other.
    pub async fn converse(&self) -> Result<()> {
        let [first, second] = &self.people[..2] else { bail!("a conversation needs two") };
        let [question, answer] = ["question", "answer"].map(|what| format!("{what} {}", Uuid::new_v4()));
        first.say(self.room, &question).await?;
        second.hear(&question).await?;
        second.say(self.room, &answer).await?;
        first.hear(&answer).await
    }

    /// Everybody of `speakers` says something again and again until `done`; then everything is committed.
    ///
    /// # Errors
    /// When a message is refused, or not committed in time.
    pub async fn chatter(
        &self,
        speakers: usize,
        pause: Duration,
        done: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let talk = async {
            let mut pending = Vec::new();
            let mut ticks = tokio::time::interval(pause);
            for round in 0.. {
                ticks.tick().await;
                for person in self.people.iter().take(speakers) {
                    pending.push(person.client.send(self.room, format!("{} says {round}", person.name)).await?);
                }
                if pending.len() > 100_000 {
                    break;
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::select! {
            ended = talk => ended?,
            ended = done => ended?,
        }
        for person in self.people.iter().take(speakers) {
            let decided = |record: &Record| (record.undecided() == 0).then_some(());
            let known = person.recorder.until(PATIENCE, decided).await;
            ensure!(known.is_some(), "{} does not know the fate of its messages", person.name);
        }
        Ok(())
    }

    /// Waits until everybody has seen the whole room, and judges what they saw against its history.
    ///
    /// # Errors
    /// When somebody does not see it all in time.
    pub async fn judge(&self) -> Result<Report> {
        let history = self.history().await?;
        let head = history.last().map_or(0, |event| event.seq);
        for person in &self.people {
            let caught_up = |record: &Record| {
                record.events.iter().any(|seen| seen.event.room == self.room && seen.event.seq >= head).then_some(())
            };
            let seen = person.recorder.until(PATIENCE, caught_up).await;
            ensure!(seen.is_some(), "{} did not see the room up to {head}", person.name);
        }
        let records: Vec<Record> = self.people.iter().map(|person| person.recorder.look().clone()).collect();
        Ok(checker::check(&records, &Histories::from([(self.room, history)])))
    }

    /// How many people are on the emptiest and on the fullest of so many nodes.
    pub fn spread(&self, nodes: usize) -> (usize, usize) {
        let on = self.whereabouts();
        let emptiest = if on.len() < nodes { 0 } else { on.values().copied().min().unwrap_or(0) };
        (emptiest, on.values().copied().max().unwrap_or(0))
    }

    /// The fullest node.
    pub fn fullest(&self) -> Option<String> {
        self.whereabouts().into_iter().max_by_key(|(_, people)| *people).map(|(node, _)| node)
    }

    /// How many people each node has that has any.
    fn whereabouts(&self) -> BTreeMap<String, usize> {
        let mut on = BTreeMap::new();
        for person in &self.people {
            if let Some(connection) = person.recorder.look().connections.last() {
                *on.entry(connection.node.clone()).or_default() += 1;
            }
        }
        on
    }

    /// The room's log, from 1 to its end.
    async fn history(&self) -> Result<Vec<Event>> {
        let reader = &self.people[0].client;
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let page = Page { before: None, after: Some(after), limit: 200 };
            let history = timeout(PATIENCE, reader.history(self.room, page)).await??;
            events.extend(history.events);
            if !history.more {
                return Ok(events);
            }
        }
    }

    /// Everybody leaves.
    pub async fn end(self) {
        for person in self.people {
            person.client.close().await;
        }
    }
}
