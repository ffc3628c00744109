//! A request, understood: which verb, on what, with which parameters.

use std::collections::BTreeMap;

use http::{Method, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::form_urlencoded;

use super::kinds::{self, Kind};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects that a selector takes.
    List,
    /// Their changes.
    Watch,
    /// A new object.
    Create,
    /// A whole object in place of another.
    Replace,
    /// Server-side apply.
    Apply,
    /// A JSON merge patch.
    Merge,
    /// The end of an object.
    Delete,
}

impl Verb {
    /// Whether it changes something.
    pub fn writes(self) -> bool {
        !matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked.
    pub verb: Verb,
    /// Of which kind.
    pub kind: &'static Kind,
    /// In which namespace; `None` for all.
    pub namespace: Option<String>,
    /// Of which object; empty for all.
    pub name: String,
    /// Of which part of it; empty for the whole.
    pub subresource: String,
    /// Whether only metadata is wanted.
    pub metadata_only: bool,
    /// Parameters of the query.
    pub query: BTreeMap<String, String>,
    /// What was sent.
    pub body: Value,
}

impl Call {
    /// Understands a request; `None` when nothing is served there.
    pub fn read(parts: &Parts, body: &[u8]) -> Option<Call> {
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let path = percent_decode_str(parts.uri.path()).decode_utf8().ok()?;
        let mut steps = path.trim_matches('/').split('/').collect::<Vec<_>>();
        let (group, version) = match *steps.first()? {
            "api" => ("", steps.drain(..2.min(steps.len())).nth(1)?),
            "apis" => {
                let head: Vec<_> = steps.drain(..3.min(steps.len())).collect();
                (*head.get(1)?, *head.get(2)?)
            }
            _ => return None,
        };
        let namespace = (steps.first() == Some(&"namespaces") && steps.len() > 2).then(|| steps[1].to_owned());
        let rest = if namespace.is_some() { &steps[2..] } else { &steps[..] };
        let kind = kinds::in_path(group, version, rest.first()?)?;
        let name = rest.get(1).copied().unwrap_or_default().to_owned();
        let subresource = rest.get(2).copied().unwrap_or_default().to_owned();
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let verb = match parts.method {
            Method::GET if !name.is_empty() => Verb::Get,
            Method::GET if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") => Verb::Watch,
            Method::GET => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Replace,
            Method::PATCH if header("content-type") == "application/apply-patch+yaml" => Verb::Apply,
            Method::PATCH if header("content-type") == "application/merge-patch+json" => Verb::Merge,
            Method::DELETE if !name.is_empty() => Verb::Delete,
            _ => return None,
        };
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).ok()? };
        let metadata_only = header("accept").contains("as=PartialObjectMetadata");
        Some(Call { verb, kind, namespace, name, subresource, metadata_only, query, body })
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the label selector takes an object. Only what is used is understood: `key=value`, `key`, joined by commas.
    pub fn selects(&self, object: &Value) -> bool {
        self.parameter("labelSelector").is_none_or(|selector| {
            selector.split(',').all(|term| match term.split_once('=') {
                Some((key, value)) => object["metadata"]["labels"][key] == value.trim_start_matches('='),
                None => object["metadata"]["labels"].get(term).is_some(),
            })
        })
    }
}
