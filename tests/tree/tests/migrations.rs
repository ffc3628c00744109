//! Migrations only add, so that nodes of the previous version go on while those of the next begin.

use tree::{File, files};

/// How a statement may begin that takes nothing from a node that does not know of it.
const ADDITIONS: [&str; 8] = [
    "CREATE TABLE ",
    "CREATE UNLOGGED TABLE ",
    "CREATE INDEX ",
    "CREATE UNIQUE INDEX ",
    "CREATE SEQUENCE ",
    "CREATE FUNCTION ",
    "INSERT INTO ",
    // What was there before may be told in the new columns.
    "UPDATE ",
];

fn migrations(store: &str) -> Vec<File> {
    files(&format!("chat-node/migrations/{store}"), ".sql")
}

fn statements(file: &File) -> Vec<String> {
    let lines = file.text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    text.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

/// A column that the previous version leaves out when it inserts.
fn adds_a_column(statement: &str) -> bool {
    let adds = statement.starts_with("ALTER TABLE ") && statement.contains(" ADD COLUMN ");
    adds && (!statement.contains(" NOT NULL") || statement.contains(" DEFAULT "))
}

fn only_adds(statement: &str) -> bool {
    ADDITIONS.iter().any(|addition| statement.starts_with(addition)) || adds_a_column(statement)
}

#[test]
fn migrations_only_add() {
    let all: Vec<File> = ["postgres", "sqlite"].into_iter().flat_map(migrations).collect();
    assert!(all.len() >= 12, "only {} migrations: are they where they are looked for?", all.len());
    for file in all {
        for statement in statements(&file) {
            assert!(only_adds(&statement), "{}: the previous version cannot go on after {statement:?}", file.path);
        }
    }
}

#[test]
fn what_takes_something_away_is_found() {
    for statement in [
        "DROP TABLE rooms",
        "ALTER TABLE rooms DROP COLUMN topic",
        "ALTER TABLE rooms RENAME COLUMN topic TO subject",
        "ALTER TABLE rooms ADD COLUMN owner text NOT NULL",
        "DELETE FROM rooms",
    ] {
        assert!(!only_adds(statement), "{statement}");
    }
}
