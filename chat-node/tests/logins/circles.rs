//! Nodes on one PostgreSQL that change many rows at once: they wait for each other, and never in a circle.

use std::sync::Arc;

use chat_node::{
    event::User,
    store::{PostgresStore, Seen, SharedStore},
};
use services::Services;
use tokio::join;
use uuid::Uuid;

use crate::ground::LIMITS;

/// Enough that PostgreSQL looks rows up in the order in which they are named.
const ROWS: usize = 5_000;

/// Of which so many are changed at once.
const AT_ONCE: usize = 1_000;

const ROUNDS: i64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_note_and_end_the_same_rows_at_once_never_wait_for_each_other_in_a_circle() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let store: SharedStore = Arc::new(PostgresStore::new(&url, None, 5, LIMITS).unwrap());
    store.migrate().await.unwrap();
    let database = url.rsplit('/').next().unwrap();
    let sql = |statement: &str| services.postgres.sql(database, statement).unwrap();
    let numbers = format!("FROM generate_series(1, {ROWS}) AS n");
    sql(&format!("INSERT INTO users (name, created_ms) SELECT md5(n::text), 0 {numbers}"));
    sql(&format!(
        "INSERT INTO logins (id, member, created_ms, seen_ms, expires_ms, selector)
         SELECT md5(n::text)::uuid, 'alice', 0, 0, n, md5(n::text)::uuid {numbers}"
    ));
    sql("ANALYZE users, logins");

    let numbered = sql(&format!("SELECT md5(n::text) {numbers} LIMIT {AT_ONCE}"));
    let names: Vec<&str> = numbered.lines().collect();
    for round in 1..=ROUNDS {
        let seen = || Seen { ms: round, client: None, address: None };
        let logins: Vec<(Uuid, Seen)> = names.iter().map(|name| (name.parse().unwrap(), seen())).collect();
        let users: Vec<(User, i64)> = names.iter().map(|name| ((*name).into(), round)).collect();
        let backwards =
            (logins.iter().rev().cloned().collect::<Vec<_>>(), users.iter().rev().cloned().collect::<Vec<_>>());
        let (one, other) = join!(store.note_logins(&logins), store.note_logins(&backwards.0));
        one.and(other).unwrap();
        let (one, other) = join!(store.note_seen(&users), store.note_seen(&backwards.1));
        one.and(other).unwrap();
        if round == ROUNDS {
            let (one, other, ended) =
                join!(store.note_logins(&logins), store.note_logins(&backwards.0), store.end_logins("alice", None));
            one.and(other).unwrap();
            assert_eq!(ended.unwrap().len(), ROWS);
        }
    }
    let counted = |table, column| sql(&format!("SELECT count(*) FROM {table} WHERE {column} = {ROUNDS}"));
    assert_eq!(counted("users", "last_seen_ms").trim(), AT_ONCE.to_string());
    store.close().await;
}
