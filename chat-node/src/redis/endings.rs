//! Hearing of sessions that were ended, here or on another node. Whoever was not connected may have missed some, and says so.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use uuid::Uuid;

use super::{ANSWER_SECONDS_MAX, link::Link};
use crate::{metric::Metric, reach::Reach, store::Hint};

/// Time between attempts to connect, and between proofs that what is connected still is.
const RETRY: Duration = Duration::from_secs(1);
const PROVED_EVERY: Duration = Duration::from_secs(5);

/// Hints that wait.
const HINTS_MAX: usize = 1_024;

/// Listens until nobody wants to hear of it any more.
pub(super) fn start(link: Arc<Link>, channel: Arc<str>, reach: Reach) -> mpsc::Receiver<Hint> {
    let (hints, receiver) = mpsc::channel(HINTS_MAX);
    tokio::spawn(async move {
        let mut is_away = false;
        while !hints.is_closed() {
            let error = listen(&link, &channel, &hints, &reach, &mut is_away).await;
            reach.down(&error);
            Metric::RedisUp.set(0.0);
            // Once, not every second.
            if !std::mem::replace(&mut is_away, true) {
                tracing::warn!(%error, "Redis is away: nobody new can sign in or connect");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    receiver
}

/// Listens on one connection to its end, and tells why it ended.
async fn listen(link: &Link, channel: &str, hints: &mpsc::Sender<Hint>, reach: &Reach, is_away: &mut bool) -> String {
    // What was given up before this connection is made says nothing of it.
    let _ = link.given_up().now_or_never();
    let connect = async {
        let (mut sink, stream) = link.client.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        Ok::<_, redis::RedisError>((sink, stream))
    };
    let (mut sink, mut stream) = match timeout(ANSWER_SECONDS_MAX, connect).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer in time".into(),
    };
    reach.up();
    Metric::RedisUp.set(1.0);
    if std::mem::take(is_away) {
        tracing::info!("Redis is there again");
    }
    let mut prove = interval(PROVED_EVERY);
    let mut hint = Hint::Missed;
    loop {
        if hints.send(hint).await.is_err() {
            return "the node ends".into();
        }
        hint = loop {
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => break Hint::Ended(ended(message.get_payload_bytes())),
                    None => return "the connection ended".into(),
                },
                _ = prove.tick() => match timeout(ANSWER_SECONDS_MAX, sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "no answer in time".into(),
                },
                // This one leads to the same server.
                () = link.given_up() => return "a connection was of no use any more, and is made anew".into(),
                () = hints.closed() => return "the node ends".into(),
            }
        };
    }
}

/// The sessions that a message names.
fn ended(payload: &[u8]) -> Vec<Uuid> {
    let names = std::str::from_utf8(payload).unwrap_or_default().split(' ');
    names.filter_map(|name| Uuid::parse_str(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_session_is_passed_over() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(ended(format!("{one} nonsense {two}").as_bytes()), [one, two]);
        assert_eq!(ended(&[0xff]), [] as [Uuid; 0]);
    }
}
