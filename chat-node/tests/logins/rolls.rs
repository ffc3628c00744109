//! Rolls: what a run tells of who is present is kept in order, and nothing of a run that is over.

use std::time::Duration;

use chat_node::store::{ROLL_KEPT_MS, RollMessage, Run};
use tokio::time::{sleep, timeout};

use crate::{
    ground::{Ground, on_all},
    support::pair::Pair,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A busy machine may take so long between two statements, in milliseconds.
const MOMENT_MS: i64 = 10_000;

async fn add(ground: &Ground, run: &str, messages: &[(i64, &str)]) -> Vec<(String, i64)> {
    let messages: Vec<_> = messages.iter().map(|(number, text)| (*number, (*text).to_owned())).collect();
    let runs = ground.sessions.add_to_roll(run, &messages).await.unwrap();
    assert!(runs.iter().all(|run| (0..MOMENT_MS).contains(&run.age_ms)), "{runs:?}");
    let mut runs: Vec<_> = runs.into_iter().map(|Run { run, number, .. }| (run, number)).collect();
    runs.sort();
    runs
}

async fn read(ground: &Ground, after: &[(&str, i64)], limit: usize) -> Vec<(String, i64, String)> {
    let after: Vec<_> = after.iter().map(|(run, number)| ((*run).to_owned(), *number)).collect();
    let found = ground.sessions.read_rolls(&after, limit).await.unwrap();
    found.into_iter().map(|RollMessage { run, number, text }| (run, number, text)).collect()
}

fn messages(run: &str, messages: &[(i64, &str)]) -> Vec<(String, i64, String)> {
    messages.iter().map(|(number, text)| (run.to_owned(), *number, (*text).to_owned())).collect()
}

fn runs(runs: &[(&str, i64)]) -> Vec<(String, i64)> {
    runs.iter().map(|(run, number)| ((*run).to_owned(), *number)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_tells_is_read_in_order_from_any_number_on() {
    on_all(async |ground| {
        assert_eq!(add(&ground, "a/1", &[(1, "lost")]).await, [], "a roll that was not begun is not added to");
        assert_eq!(read(&ground, &[("a/1", -1)], 9).await, []);
        ground.sessions.begin_roll("a/1", 0, "nobody").await.unwrap();
        ground.sessions.begin_roll("b/1", 7, "everybody \u{1f600} \"\\u0000\" with spaces").await.unwrap();
        add(&ground, "a/1", &[(1, "same"), (2, "same")]).await;
        // An answer was lost, and what was given is given again.
        add(&ground, "a/1", &[(1, "same"), (2, "same"), (3, "third")]).await;
        assert_eq!(add(&ground, "b/1", &[]).await, runs(&[("a/1", 3), ("b/1", 7)]));

        let of_a = messages("a/1", &[(0, "nobody"), (1, "same"), (2, "same"), (3, "third")]);
        let of_b = messages("b/1", &[(7, "everybody \u{1f600} \"\\u0000\" with spaces")]);
        assert_eq!(read(&ground, &[("a/1", -1), ("b/1", -1), ("c/1", -1)], 9).await, [of_a.clone(), of_b].concat());
        assert_eq!(read(&ground, &[("a/1", -1), ("b/1", -1)], 3).await, of_a[..3]);
        assert_eq!(read(&ground, &[("b/1", 7), ("a/1", 2)], 9).await, of_a[3..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_that_is_begun_anew_takes_the_place_of_what_was_and_of_nothing_that_came_since() {
    on_all(async |ground| {
        ground.sessions.begin_roll("a/1", 0, "nobody").await.unwrap();
        add(&ground, "a/1", &[(1, "first"), (2, "second"), (3, "third")]).await;
        for _ in 0..2 {
            ground.sessions.begin_roll("a/1", 2, "everybody").await.unwrap();
            let left = messages("a/1", &[(2, "everybody"), (3, "third")]);
            assert_eq!(read(&ground, &[("a/1", -1)], 9).await, left);
            // What was under way for long, and has been made up for.
            assert_eq!(add(&ground, "a/1", &[(2, "second")]).await, runs(&[("a/1", 3)]));
            assert_eq!(read(&ground, &[("a/1", -1)], 9).await, left);
        }
        ground.sessions.end_roll("a/1").await.unwrap();
        ground.sessions.end_roll("a/1").await.unwrap();
        assert_eq!(add(&ground, "a/1", &[(4, "fourth")]).await, [], "it is over");
        assert_eq!(read(&ground, &[("a/1", -1)], 9).await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_runs_that_were_silent_for_long_are_forgotten() {
    on_all(async |ground| {
        ground.sessions.begin_roll("a/1", 0, "nobody").await.unwrap();
        ground.sessions.forget_rolls().await.unwrap();
        assert_eq!(add(&ground, "a/1", &[]).await, runs(&[("a/1", 0)]));
    })
    .await;
    // The time is the database's, so a run is made old there.
    let pair = Pair::start().await;
    pair.sql(&format!(
        "INSERT INTO rolls (run, number, beat_ms)
         SELECT 'dead/' || n, 1, CAST(EXTRACT(EPOCH FROM now()) * 1000 AS bigint) - {ROLL_KEPT_MS} - 1 FROM generate_series(1, 30) n;
         INSERT INTO roll_messages (run, number, message) SELECT run, 1, '{{}}' FROM rolls WHERE run LIKE 'dead/%'"
    ));
    let left = "SELECT (SELECT count(*) FROM rolls WHERE run LIKE 'dead/%') + (SELECT count(*) FROM roll_messages WHERE run LIKE 'dead/%')";
    until(&pair, left, "0").await;
    until(&pair, "SELECT count(*) FROM rolls", "2").await;
    pair.nodes.iter().for_each(|node| node.stop.cancel());
    until(&pair, "SELECT (SELECT count(*) FROM rolls) + (SELECT count(*) FROM roll_messages)", "0").await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_roll_the_database_lost_begins_it_anew() {
    let pair = Pair::start().await;
    until(&pair, "SELECT count(*) FROM roll_messages", "2").await;
    // What a crash of the database does to tables that are not logged.
    assert_eq!(
        pair.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'roll%' AND relkind = 'r' AND relpersistence = 'u'")
            .trim(),
        "2"
    );
    pair.sql("TRUNCATE rolls, roll_messages");
    until(&pair, "SELECT count(*) FROM roll_messages", "2").await;
    pair.stop().await;
}

/// Waits until a query answers so.
async fn until(pair: &Pair, query: &str, answer: &str) {
    let answers = async {
        while pair.sql(query).trim() != answer {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, answers).await.unwrap_or_else(|_| panic!("{query} does not come to {answer}"));
}
