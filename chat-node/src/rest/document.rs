//! The OpenAPI document, made from the operations and the types that they take and give.
//!
//! Made by a test, so that the program carries the finished text and nothing that makes it: `make generate` writes it, and without
//! that the test says when it is stale.

mod shape;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use self::shape::{Shape, shape};
use super::{
    operations::{OPERATIONS, Operation},
    problem::{ProblemDocument, Reason},
};
use crate::protocol::Code;

/// A text without NUL.
pub(super) const NO_NUL: &str = r"^[^\u0000]*$";
/// A text without control characters.
pub(super) const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// Likewise, with at least one character that shows: one that is not white space (Unicode's `White_Space`).
pub(super) const LINE: &str = concat!(
    r"^[^\u0000-\u001f\u007f-\u009f]*",
    r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000-\u001f\u007f-\u009f]*$",
);
/// A text without NUL, with at least one character that shows.
pub(super) const TEXT: &str = concat!(
    r"^[^\u0000]*",
    r"[^\u0000\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000]*$",
);

/// Reasons that any operation may fail for.
fn general(open: bool) -> Vec<Reason> {
    let mut reasons = [Code::Overloaded, Code::Unavailable, Code::Internal].map(Reason::Protocol).to_vec();
    reasons.push(Reason::TooManyRequests);
    if !open {
        reasons.extend([Code::BadToken, Code::TokenExpired, Code::Forbidden].map(Reason::Protocol));
    }
    reasons
}

fn operation(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let Shape { open, parameters, body, answers, mut reasons } = shape(operation.id, generator);
    reasons.extend(general(open));
    let mut responses = Map::new();
    for (status, what, schema) in answers {
        let mut answer = json!({"description": what});
        if let Some(schema) = schema {
            answer["content"] = json!({"application/json": {"schema": schema}});
        }
        responses.insert(status.to_string(), answer);
    }
    let problem = generator.subschema_for::<ProblemDocument<'static>>();
    for reason in reasons {
        let (status, code, detail) = reason.parts();
        let problem = json!({"application/problem+json": {"schema": problem}});
        let answer = responses
            .entry(status.as_u16().to_string())
            .or_insert_with(|| json!({"description": "", "content": problem}));
        let line = format!("`{code}`: {detail}.");
        let said = answer["description"].as_str().unwrap_or_default();
        if !said.contains(&line) {
            answer["description"] = [said, &line].join("\n").trim().into();
        }
    }
    responses.sort_keys();
    let mut made = json!({"operationId": operation.id, "summary": operation.summary, "responses": responses});
    if !parameters.is_empty() {
        made["parameters"] = parameters.into();
    }
    if let Some(schema) = body {
        made["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if open {
        made["security"] = json!([]);
    }
    made
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for one in &OPERATIONS {
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method.as_str().to_ascii_lowercase()] = operation(one, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chatcluster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything of a chat that is not live. What is live is a WebSocket: docs/protocol.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

#[test]
fn the_document_is_that_of_the_code() {
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("CHATCLUSTER_GENERATE").is_some() {
        std::fs::write("src/rest/openapi.json", &made).unwrap();
        return;
    }
    assert!(super::DOCUMENT == made, "chat-node/src/rest/openapi.json is stale: run `make generate`");
}

#[test]
fn every_operation_is_in_the_page() {
    let page = include_str!("../../../docs/rest.md");
    for operation in &OPERATIONS {
        let row = format!("| `{} {}` |", operation.method, operation.path);
        assert!(page.lines().any(|line| line.starts_with(&row)), "docs/rest.md has no row {row}");
    }
}
