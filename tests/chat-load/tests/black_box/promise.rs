//! The promise under a power cut, a drain and lost networks, judged by the checker.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use chat_load::{
    checker::{Report, moves_in_words},
    client::Identity,
    crowd::Crowd,
    dial::{Dial, Tcp},
    record::Record,
};
use serde_json::{Value, json};
use services::Services;
use standalone::{Node, token};
use tokio::task::block_in_place;

const CLIENTS: usize = 12;
const ROOMS: usize = 4;
const MESSAGES_A_SECOND: f64 = 200.0;
/// All clients are back, and have everything, by then.
const WITHIN: Duration = Duration::from_secs(30);

async fn crowd(nodes: &[&Node]) -> Crowd {
    let urls: Vec<String> = nodes.iter().map(|node| node.url()).collect();
    let dial: Arc<dyn Dial> = Arc::new(Tcp::new(&urls, 0).unwrap());
    let identities = (0..CLIENTS).map(|index| Identity::Token(token(&format!("user-{index}"), 3_600))).collect();
    Crowd::gather(&dial, identities, ROOMS).await.unwrap()
}

/// Everybody has so many acknowledgements more.
async fn some_more_is_committed(crowd: &Crowd) {
    for member in crowd.members() {
        let before = member.recorder.look().acks.len();
        let more = member.recorder.until(WITHIN, |record| (record.acks.len() >= before + 5).then_some(())).await;
        more.expect("nothing more was committed");
    }
}

#[track_caller]
fn kept((report, records): (Report, Vec<Record>), moves: RangeInclusive<usize>) {
    let words: Vec<String> = records.iter().map(moves_in_words).collect();
    assert!(report.is_clean(), "{report}");
    let (least, most) = report.moves;
    assert!(moves.contains(&least) && moves.contains(&most), "{moves:?} moves are expected: {words:#?}");
    assert!(report.committed >= CLIENTS * 10, "{report}");
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_that_was_committed() {
    let mut node = Node::start(json!({}));
    let crowd = crowd(&[&node]).await;
    let cut = async {
        some_more_is_committed(&crowd).await;
        block_in_place(|| node.kill_and_start_again());
        some_more_is_committed(&crowd).await;
    };
    crowd.talk_during(MESSAGES_A_SECOND, cut).await.unwrap();
    kept(crowd.judge(WITHIN).await.unwrap(), 1..=1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_moves_each_client_once_and_loses_nothing() {
    let mut node = Node::start(json!({}));
    let crowd = crowd(&[&node]).await;
    let leave = async {
        some_more_is_committed(&crowd).await;
        node.terminate();
        block_in_place(|| node.start_again_after_it_left());
        some_more_is_committed(&crowd).await;
    };
    crowd.talk_during(MESSAGES_A_SECOND, leave).await.unwrap();
    let (report, records) = crowd.judge(WITHIN).await.unwrap();
    for record in &records {
        let first = moves_in_words(record);
        assert!(first.contains("closed with 1012"), "{first}");
    }
    kept((report, records), 1..=1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_network_costs_a_client_its_connection_and_no_message() {
    let node = Node::start(json!({}));
    let crowd = crowd(&[&node]).await;
    let cuts = async {
        for _ in 0..2 {
            some_more_is_committed(&crowd).await;
            for member in crowd.members() {
                let connections = member.recorder.look().connections.len();
                member.client.cut().await;
                let back =
                    member.recorder.until(WITHIN, |record| (record.connections.len() > connections).then_some(()));
                back.await.expect("the client did not come back");
            }
        }
        some_more_is_committed(&crowd).await;
    };
    crowd.talk_during(MESSAGES_A_SECOND, cuts).await.unwrap();
    kept(crowd.judge(WITHIN).await.unwrap(), 2..=2);
}

/// What makes a node one of several.
fn bound(postgres: &str, rabbitmq: &str) -> Value {
    json!({
        "store": {"sqlite": null, "postgres": {"endpoint": {"url": postgres}}},
        "bus": {"rabbitmq": {"endpoint": {"url": rabbitmq}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_of_one_node_and_a_drain_of_the_other_lose_nothing() {
    let config = block_in_place(|| {
        let services = Services::new().unwrap();
        services.up().unwrap();
        bound(&services.postgres.fresh_database().unwrap(), &services.rabbitmq.fresh_vhost().unwrap())
    });
    let [mut one, mut other] = block_in_place(|| [Node::start(config.clone()), Node::start(config)]);
    let crowd = crowd(&[&one, &other]).await;
    let trouble = async {
        some_more_is_committed(&crowd).await;
        block_in_place(|| one.kill_and_start_again());
        some_more_is_committed(&crowd).await;
        other.terminate();
        block_in_place(|| other.start_again_after_it_left());
        some_more_is_committed(&crowd).await;
    };
    crowd.talk_during(MESSAGES_A_SECOND, trouble).await.unwrap();
    kept(crowd.judge(WITHIN).await.unwrap(), 1..=2);
}
