//! The invariants of `docs/architecture.md` that can be read off the source: what never knows what.

use tree::{File, files};

/// The files of `folder` that name one of `words`, apart from those whose path begins with one of `allowed`.
fn who_names(folder: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    let files = files(folder, ".rs");
    assert!(!files.is_empty(), "{folder} has no source: has it moved?");
    let guilty = |file: &File| {
        let word = words.iter().find(|word| file.names(word))?;
        let is_allowed = allowed.iter().any(|allowed| file.path.starts_with(allowed));
        (!is_allowed).then(|| format!("{} names {word}", file.path))
    };
    files.iter().filter_map(guilty).collect()
}

#[track_caller]
fn nobody(guilty: Vec<String>) {
    assert!(guilty.is_empty(), "{guilty:#?}");
}

/// The names of a manifest's dependencies, those for tests left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = File::read(manifest).text;
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split([' ', '.', '=']).next())
        .map(str::to_owned)
        .filter(|name| !name.is_empty())
        .collect()
}

#[track_caller]
fn depends_on_none_of(manifest: &str, forbidden: &[&str]) {
    let dependencies = dependencies(manifest);
    assert!(!dependencies.is_empty(), "{manifest} has no dependencies: has its form changed?");
    let bad: Vec<&String> = dependencies.iter().filter(|name| forbidden.contains(&name.as_str())).collect();
    assert!(bad.is_empty(), "{manifest} depends on {bad:?}");
}

#[test]
fn the_operator_and_the_node_never_import_each_other() {
    depends_on_none_of("operator/Cargo.toml", &["chat-node", "sqlx", "lapin"]);
    depends_on_none_of("chat-node/Cargo.toml", &["operator", "kube", "k8s-openapi"]);
    nobody(who_names("operator/src", &["chat_node"], &[]));
    nobody(who_names("chat-node/src", &["kube", "k8s_openapi", "ChatCluster"], &[]));
}

#[test]
fn the_contracts_have_no_client_no_clock_and_no_async() {
    depends_on_none_of("crds/Cargo.toml", &["tokio", "futures", "reqwest", "sqlx", "lapin", "operator", "chat-node"]);
    nobody(who_names("crds/src", &["async", "Client", "SystemTime", "Instant"], &[]));
}

#[test]
fn in_the_node_only_the_store_knows_sql_and_only_the_bus_knows_rabbitmq() {
    nobody(who_names("chat-node/src", &["sqlx"], &["chat-node/src/store/"]));
    nobody(who_names("chat-node/src", &["lapin"], &["chat-node/src/bus/"]));
    nobody(who_names(
        "chat-node/src",
        &["ConnectionManager", "RedisError", "ScriptInvocation"],
        &["chat-node/src/redis/"],
    ));
    let telemetry = ["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp", "opentelemetry_http"];
    nobody(who_names("chat-node/src", &telemetry, &["chat-node/src/trace/"]));
}

#[test]
fn in_the_node_only_the_table_of_metrics_knows_how_they_are_kept() {
    let words = ["metrics::counter", "metrics::gauge", "metrics::histogram"];
    nobody(who_names("chat-node/src", &words, &["chat-node/src/metric.rs"]));
}

#[test]
fn in_the_operator_only_what_observes_applies_and_drives_holds_a_client() {
    let allowed =
        ["apply", "caches", "controller", "events", "kinds", "lease", "main", "nodes", "observe", "reconcile", "run"];
    // The clients of the simulated rollouts are people.
    let simulation = "operator/src/rollout/tests/".to_owned();
    let allowed: Vec<String> =
        allowed.map(|room| format!("operator/src/{room}.rs")).into_iter().chain([simulation]).collect();
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    nobody(who_names("operator/src", &["Client"], &allowed));
}

#[test]
fn what_decides_has_no_client_no_clock_no_chance_and_waits_for_nothing() {
    let pure = [
        "operator/src/bindings",
        "operator/src/desired",
        "operator/src/rollout",
        "operator/src/status",
        "chat-node/src/protocol",
        "chat-node/src/session",
        "tests/chat-load/src/checker",
    ];
    let impure = ["async", "Client", "SystemTime", "now()", "Instant", "rand", "tokio"];
    for folder in pure {
        nobody(who_names(folder, &impure, &["operator/src/rollout/tests/"]));
    }
    for path in [
        "operator/src/validate.rs",
        "operator/src/template.rs",
        "operator/src/ending.rs",
        "operator/src/pods.rs",
        "operator/src/same.rs",
        "chat-node/src/session.rs",
        "chat-node/src/intake/outboxes.rs",
        "chat-node/src/rights.rs",
        "chat-node/src/signals/roll.rs",
        "chat-node/src/signals/ledger.rs",
        "chat-node/src/signals/board.rs",
        "chat-node/src/signals/typing.rs",
        "chat-node/src/store/plan.rs",
        "tests/chat-load/src/client/core.rs",
        "tests/chat-load/src/client/outbox.rs",
    ] {
        let file = File::read(path);
        let bad: Vec<&&str> = impure.iter().filter(|word| file.names(word)).collect();
        assert!(bad.is_empty(), "{path} names {bad:?}");
    }
}

#[test]
fn the_proof_shares_no_code_with_what_it_proves() {
    depends_on_none_of("tests/chat-load/Cargo.toml", &["chat-node", "operator", "crds"]);
    nobody(who_names("tests/chat-load", &["chat_node", "crds"], &[]));
}
