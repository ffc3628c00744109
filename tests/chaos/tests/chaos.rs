//! Whatever strikes, nothing that was acknowledged is lost, nothing comes twice, and every room has one order.
//!
//! The short plan runs with the ordinary tests. The long one has every pair of faults and at least 100,000 acknowledged messages; it
//! is ignored unless asked for (`make proof`), and `CHATCLUSTER_CHAOS_SEED` and `CHATCLUSTER_CHAOS_MINUTES` change its order and its length;
//! with `CHATCLUSTER_CHAOS_PERSISTENCE=Queued` every send goes through the queue.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{sync::Arc, time::Duration};

use chaos::{
    plan::{self, Fault, Round, Server, Target},
    stage::Stage,
};
use chat_load::{
    client::Identity,
    crowd::Crowd,
    dial::{Dial, Tcp},
};
use serde_json::json;
use standalone::token;
use tokio::time::{Instant, sleep};

/// All is well again so long after everything was mended.
const WELL_WITHIN: Duration = Duration::from_secs(60);
/// Messages that each client has to get acknowledged between two rounds.
const BETWEEN_ROUNDS: usize = 3;
/// What the long plan has to prove itself on.
const ACKNOWLEDGED_MIN: usize = 100_000;

/// How many do what.
struct Scale {
    nodes: usize,
    clients: usize,
    /// As many of the clients go away for good, each while PostgreSQL is away from all nodes.
    leavers: usize,
    rooms: usize,
    messages_a_second: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_after_the_other_loses_nothing() {
    let scale = Scale { nodes: 2, clients: 12, leavers: 3, rooms: 6, messages_a_second: 100.0 };
    let committed = survive(&scale, &plan::short(), Duration::MAX).await;
    let expected = (scale.clients - scale.leavers) * BETWEEN_ROUNDS * plan::short().len();
    assert!(committed > expected, "only {committed} were acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make proof"]
async fn every_pair_of_faults_loses_nothing() {
    let seed = number("CHATCLUSTER_CHAOS_SEED", 1);
    let minutes = number("CHATCLUSTER_CHAOS_MINUTES", 20);
    println!("CHATCLUSTER_CHAOS_SEED={seed} CHATCLUSTER_CHAOS_MINUTES={minutes}");
    let scale = Scale { nodes: 3, clients: 36, leavers: 12, rooms: 12, messages_a_second: 200.0 };
    let committed = survive(&scale, &plan::long(seed, scale.nodes), Duration::from_secs(60 * minutes)).await;
    assert!(committed >= ACKNOWLEDGED_MIN, "only {committed} were acknowledged: give it more minutes");
}

/// Talks through the rounds, as many as fit into `limit`; gives how many messages were acknowledged when all promises were kept.
async fn survive(scale: &Scale, rounds: &[Round], limit: Duration) -> usize {
    let persistence = std::env::var("CHATCLUSTER_CHAOS_PERSISTENCE").unwrap_or_else(|_| "Direct".to_owned());
    let mut stage = Stage::set(scale.nodes, &json!({"persistence": persistence})).await;
    let dial: Arc<dyn Dial> = Arc::new(Tcp::new(&stage.urls(), 0).unwrap());
    let person = |index| Identity::Token(token(&format!("user-{index}"), 86_400));
    let crowd = Crowd::gather(&dial, (0..scale.clients).map(person).collect(), scale.rooms).await.unwrap().that_errs();
    let began = Instant::now();
    let mut leavers = 0..scale.leavers;
    let faults = async {
        for (index, round) in rounds.iter().enumerate().take_while(|_| began.elapsed() < limit) {
            println!("{:>5} s  round {} of {}: {round}", began.elapsed().as_secs(), index + 1, rounds.len());
            round.faults.iter().for_each(|fault| stage.strike(*fault));
            sleep(round.hold).await;
            if round.faults.iter().any(hides_postgres)
                && let Some(leaver) = leavers.next()
            {
                crowd.part(leaver).await;
            }
            stage.mend(&round.faults);
            everybody_is_heard(&crowd, round).await;
        }
    };
    crowd.talk_during(scale.messages_a_second, faults).await.unwrap();
    let (report, records) = crowd.judge(WELL_WITHIN).await.unwrap();
    let accepted = records.iter().flat_map(|record| &record.sends).filter(|send| send.accepted).count();
    println!("{report}; {accepted} of them were accepted before they had a place");
    assert!(report.is_clean(), "{report}");
    report.committed
}

/// Whether no node sees PostgreSQL: what is acknowledged then is only accepted, and its sender may not be there to send it again.
fn hides_postgres(fault: &Fault) -> bool {
    matches!(fault.target, Target::Server(Server::Postgres) | Target::Links(Server::Postgres))
}

async fn everybody_is_heard(crowd: &Crowd, round: &Round) {
    let before: Vec<usize> = crowd.present().map(|member| member.recorder.look().acks.len()).collect();
    for (member, before) in crowd.present().zip(before) {
        let heard = |acks: usize| acks >= before + BETWEEN_ROUNDS;
        let more = member.recorder.until(WELL_WITHIN, |record| heard(record.acks.len()).then_some(())).await;
        let record = member.recorder.look();
        assert!(more.is_some(), "{} is not heard any more after: {round}; {:?}", record.user, record.deferred.last());
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
