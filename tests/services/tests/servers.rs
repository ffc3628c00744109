//! What the servers promise to tests, on servers of their own.

use std::{path::Path, process::Command};

use services::Apart;

#[test]
fn servers_come_back_from_a_power_cut_with_what_was_committed() {
    if !Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
        eprintln!("skipped: run tests/setup/install services");
        return;
    }
    let services = Apart::new().unwrap();
    services.up().unwrap();
    services.redis.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    sql(&url, "CREATE TABLE kept (id int)");
    sql(&url, "INSERT INTO kept VALUES (42)");
    let vhost = services.rabbitmq.vhost("kept", "127.0.0.1").unwrap();

    services.postgres.kill().unwrap();
    services.rabbitmq.kill().unwrap();
    let first = services.redis.fresh_database().unwrap();
    services.redis.kill().unwrap();
    assert!(!services.postgres.is_running() && !services.rabbitmq.is_running() && !services.redis.is_running());

    services.up().unwrap();
    services.redis.start().unwrap();
    assert_ne!(services.redis.fresh_database().unwrap(), first, "it knows what it has given");
    assert_eq!(sql(&url, "SELECT id FROM kept").trim(), "42");
    assert_eq!(services.rabbitmq.vhost("kept", "127.0.0.1").unwrap(), vhost, "made once, found again");
    assert_ne!(services.rabbitmq.fresh_vhost().unwrap(), services.rabbitmq.fresh_vhost().unwrap());
}

/// By the URL, and so over TCP with the password, as everybody else.
fn sql(url: &str, statement: &str) -> String {
    let out = Command::new("psql").args([url, "-XqAt", "-c", statement]).output().expect("psql comes with PostgreSQL");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
