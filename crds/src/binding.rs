//! Bindings: how the keys of a Secret, or the files of its mount, become a connection URL.
//!
//! Owns the one reading of the [Service Binding] shape that the operator (which checks a Secret before it starts pods)
//! and the node (which connects) share. It must never put a value of a Secret into an error.
//!
//! [Service Binding]: https://servicebinding.io/spec/core/1.1.0/#workload-projection

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The unreserved characters of RFC 3986 §2.3 stay, all others are escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A PostgreSQL database.
    Postgres,
    /// A RabbitMQ virtual host.
    Rabbitmq,
}

impl Service {
    /// Keys that hold a whole URL, the first present one wins. `connection_string` is what the RabbitMQ Cluster Operator writes.
    fn uri_keys(self) -> &'static [&'static str] {
        match self {
            Service::Postgres => &["uri"],
            Service::Rabbitmq => &["uri", "connection_string"],
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Service::Postgres => &["postgres", "postgresql"],
            Service::Rabbitmq => &["amqp", "amqps"],
        }
    }

    /// The keys that make a binding, as one would tell a person.
    pub fn expected_keys(self) -> &'static str {
        match self {
            Service::Postgres => "uri, or host, username, password and database",
            Service::Rabbitmq => "uri or connection_string, or host, username and password",
        }
    }
}

/// Why a Secret is no binding. Names keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// A key that is needed is absent or empty.
    #[error("key {key:?} is missing: give {expected}")]
    MissingKey {
        /// The first key that was looked for in vain.
        key: &'static str,
        /// All ways to write a binding.
        expected: &'static str,
    },
    /// The value is not text.
    #[error("key {key:?} is not UTF-8 text")]
    NotText {
        /// The key.
        key: &'static str,
    },
    /// The URL does not parse, or leads elsewhere.
    #[error("key {key:?} is not a URL of the form {scheme}://user:password@host:port/name")]
    BadUri {
        /// The key.
        key: &'static str,
        /// The scheme that it should have.
        scheme: &'static str,
    },
    /// The port is not a number from 1 to 65535.
    #[error("key \"port\" is not a number from 1 to 65535")]
    BadPort,
}

/// Makes the connection URL of `service` from the entries of a Secret.
///
/// # Errors
/// When no known set of keys is complete, or a value cannot be used.
pub fn connection_url(service: Service, entries: &BTreeMap<String, Vec<u8>>) -> Result<String, BindingError> {
    for key in service.uri_keys() {
        if let Some(uri) = text(entries, key)? {
            return checked_uri(service, key, uri);
        }
    }
    let need = |keys: &[&'static str]| -> Result<&str, BindingError> {
        for key in keys {
            if let Some(value) = text(entries, key)? {
                return Ok(value);
            }
        }
        Err(BindingError::MissingKey { key: keys[0], expected: service.expected_keys() })
    };
    let host = need(&["host"])?;
    let username = escape(need(&["username", "user"])?);
    let password = escape(need(&["password"])?);
    let port = |default: u16| match text(entries, "port")? {
        None => Ok(default),
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BindingError::BadPort),
    };
    match service {
        Service::Postgres => {
            let database = escape(need(&["database", "dbname"])?);
            Ok(format!("postgres://{username}:{password}@{host}:{}/{database}", port(5432)?))
        }
        Service::Rabbitmq => {
            // The default virtual host is named "/", which an AMQP URI writes as %2F (https://www.rabbitmq.com/docs/uri-spec).
            let vhost = escape(text(entries, "vhost")?.unwrap_or("/"));
            Ok(format!("amqp://{username}:{password}@{host}:{}/{vhost}", port(5672)?))
        }
    }
}

/// A present, non-empty value without the line end that editors leave behind.
fn text<'a>(entries: &'a BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<&'a str>, BindingError> {
    let Some(value) = entries.get(key) else {
        return Ok(None);
    };
    let value = std::str::from_utf8(value).map_err(|_| BindingError::NotText { key })?.trim_end();
    Ok((!value.is_empty()).then_some(value))
}

fn checked_uri(service: Service, key: &'static str, uri: &str) -> Result<String, BindingError> {
    let schemes = service.schemes();
    match Url::parse(uri) {
        Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Ok(uri.to_owned()),
        _ => Err(BindingError::BadUri { key, scheme: schemes[0] }),
    }
}

fn escape(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: Service, entries: &[(&str, &str)], expected: Result<&str, BindingError>) {
        let entries = entries.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        assert_eq!(connection_url(service, &entries), expected.map(str::to_owned));
    }

    #[test]
    fn a_whole_url_is_taken_as_it_is() {
        check(Service::Postgres, &[("uri", "postgresql://u:p@h/d\n")], Ok("postgresql://u:p@h/d"));
        check(Service::Rabbitmq, &[("connection_string", "amqp://u:p@h:5672/")], Ok("amqp://u:p@h:5672/"));
    }

    #[test]
    fn parts_make_a_url_and_are_escaped() {
        let parts = [("host", "db"), ("username", "a b"), ("password", "p@:/#"), ("database", "chat")];
        check(Service::Postgres, &parts, Ok("postgres://a%20b:p%40%3A%2F%23@db:5432/chat"));
        let cnpg = [("host", "db"), ("user", "a"), ("password", "b"), ("dbname", "chat"), ("port", "6432")];
        check(Service::Postgres, &cnpg, Ok("postgres://a:b@db:6432/chat"));
        check(Service::Rabbitmq, &[("host", "mq"), ("username", "a"), ("password", "b")], Ok("amqp://a:b@mq:5672/%2F"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |service: Service, key| Err(BindingError::MissingKey { key, expected: service.expected_keys() });
        check(Service::Postgres, &[], missing(Service::Postgres, "host"));
        check(Service::Postgres, &[("uri", "")], missing(Service::Postgres, "host"));
        check(Service::Rabbitmq, &[("host", "mq"), ("username", "a")], missing(Service::Rabbitmq, "password"));
    }

    #[test]
    fn garbage_is_refused_without_being_repeated() {
        for uri in ["hunter2", "http://h/d", "postgres:no-host"] {
            check(Service::Postgres, &[("uri", uri)], Err(BindingError::BadUri { key: "uri", scheme: "postgres" }));
        }
        let parts = [("host", "mq"), ("username", "a"), ("password", "b"), ("port", "70000")];
        check(Service::Rabbitmq, &parts, Err(BindingError::BadPort));
        let entries = BTreeMap::from([("uri".to_owned(), vec![0xff])]);
        assert_eq!(connection_url(Service::Postgres, &entries), Err(BindingError::NotText { key: "uri" }));
    }
}
