//! `chat-load talk`: two people meet, each on a node of their own, and talk. For a person to watch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use chat_load::{
    checker,
    client::{Client, Identity, Options},
    crowd::history,
    dial::{Dial, Tcp},
    frame::{Room, RoomRef},
    record::{Record, Recorder},
    rest,
};
use uuid::Uuid;

/// A message is with the other person by then, or the conversation has failed.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

const LINES: [(&str, &str); 4] = [
    ("alice", "Hello! Is anybody here?"),
    ("bob", "I am. Good to hear you, wherever your node is."),
    ("alice", "What I write is in the database before you see it."),
    ("bob", "And in the same order for everybody."),
];
const IN_PRIVATE: &str = "And this is for you alone.";

/// Where the two people connect.
#[derive(clap::Args, Debug)]
pub(crate) struct Talk {
    /// The first person's node, then the second's, such as http://127.0.0.1:8080. Given once, both use it
    #[arg(long = "url", required = true, value_delimiter = ',')]
    urls: Vec<String>,
}

struct Person {
    name: String,
    client: Client,
    recorder: Recorder,
}

/// Gives whether the promise was kept.
pub(crate) async fn run(talk: &Talk) -> anyhow::Result<bool> {
    let unique = Uuid::new_v4().simple().to_string()[..6].to_owned();
    let second = talk.urls.get(1).or(talk.urls.first()).map_or("", String::as_str);
    let alice = Person::arrive(&talk.urls[0], format!("alice-{unique}")).await?;
    let bob = Person::arrive(second, format!("bob-{unique}")).await?;

    let name = format!("lobby-{unique}");
    let lobby = alice.client.create_room(&name).await.context("alice creates a room")?;
    println!("{} creates the room {name}", alice.name);
    bob.client.join(RoomRef::Name(name.clone())).await.context("bob joins the room")?;
    println!("{} joins it", bob.name);
    for (who, line) in LINES {
        let (speaker, listener) = if who == "alice" { (&alice, &bob) } else { (&bob, &alice) };
        say(speaker, listener, &lobby, line).await?;
    }
    let aside = alice.client.direct(&bob.name).await.context("alice opens a direct room with bob")?;
    say(&alice, &bob, &aside, IN_PRIVATE).await?;

    println!("\nthe history of {name}, as {} reads it", bob.name);
    let log = history(&bob.client, lobby.id).await?;
    for event in &log {
        println!("  {:>3}  {}: {}", event.seq, event.sender, event.text.as_deref().unwrap_or(&event.kind));
    }
    let histories = BTreeMap::from([(lobby.id, log), (aside.id, history(&bob.client, aside.id).await?)]);
    for person in [&alice, &bob] {
        for (room, log) in &histories {
            let head = log.last().map_or(0, |event| event.seq);
            let reached = |record: &Record| record.has_reached(*room, head).then_some(());
            // What has not come by then is for the checker to tell.
            let _ = person.recorder.until(ARRIVES_WITHIN, reached).await;
        }
    }
    let records = [alice.recorder.look().clone(), bob.recorder.look().clone()];
    alice.client.close().await;
    bob.client.close().await;
    let report = checker::check(&records, &histories);
    println!("\n{report}");
    Ok(report.is_clean())
}

impl Person {
    async fn arrive(url: &str, name: String) -> anyhow::Result<Self> {
        let dial: Arc<dyn Dial> = Arc::new(Tcp::new(&[url], 0)?);
        let password = Uuid::new_v4().to_string();
        rest::register(&*dial, &name, &password).await.with_context(|| format!("register {name} at {url}"))?;
        let recorder = Recorder::default();
        let identity = Identity::Account { username: name.clone(), password };
        let client = Client::start(Options::new(dial, identity), recorder.clone());
        let online = tokio::time::timeout(ARRIVES_WITHIN, client.online()).await;
        let node = online.with_context(|| format!("{name} cannot connect to {url}"))??;
        println!("{name} is on node {node}");
        Ok(Person { name, client, recorder })
    }
}

/// One person says something and the other sees it.
async fn say(speaker: &Person, listener: &Person, room: &Room, line: &str) -> anyhow::Result<()> {
    let pending = speaker.client.send(room.id, line).await?;
    let committed = pending.committed().await.with_context(|| format!("{} says {line:?}", speaker.name))?;
    let arrived = listener.recorder.until(ARRIVES_WITHIN, |record| {
        let node = record.connections.last()?.node.clone();
        record.events.iter().any(|seen| seen.event.event == committed.event).then_some(node)
    });
    let node = arrived.await.with_context(|| format!("{line:?} did not reach {}", listener.name))?;
    let place = room.name.as_deref().unwrap_or("in private");
    println!("[{place} #{}] {}: {line}   (seen by {} on {node})", committed.seq, speaker.name, listener.name);
    Ok(())
}
