//! Bindings: how the keys of a Secret, or the files of its mount, become a connection URL.
//!
//! Owns the one reading of the [Service Binding] shape that the operator (which checks a Secret before it starts pods)
//! and the node (which connects) share. It must never put a value of a Secret into an error.
//!
//! [Service Binding]: https://servicebinding.io/spec/core/1.1.0/#workload-projection

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The unreserved characters of RFC 3986 §2.3 stay, all others are escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key of the certificates that a server is verified with, in the Secret itself or mounted beside it.
pub const CA_KEY: &str = "ca.crt";

/// The port of RabbitMQ under TLS.
const AMQPS_PORT: u16 = 5671;

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A PostgreSQL database.
    Postgres,
    /// A RabbitMQ virtual host.
    Rabbitmq,
    /// A database of Redis.
    Redis,
}

impl Service {
    /// Keys that hold a whole URL, the first present one wins. `connection_string` is what the RabbitMQ Cluster Operator writes.
    fn uri_keys(self) -> &'static [&'static str] {
        match self {
            Service::Postgres | Service::Redis => &["uri"],
            Service::Rabbitmq => &["uri", "connection_string"],
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Service::Postgres => &["postgres", "postgresql"],
            Service::Rabbitmq => &["amqp", "amqps"],
            Service::Redis => &["redis", "rediss"],
        }
    }

    /// The keys that make a binding, as one would tell a person.
    pub fn expected_keys(self) -> &'static str {
        match self {
            Service::Postgres => "uri, or host, username, password and database",
            Service::Rabbitmq => "uri or connection_string, or host, username and password",
            Service::Redis => "uri, or host, and where needed port, username, password and database",
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
    /// The host is no name and no address.
    #[error("key \"host\" is not a host name or an address")]
    BadHost,
    /// What should be certificates is something else.
    #[error("key \"ca.crt\" holds no certificates in PEM: it begins with -----BEGIN CERTIFICATE-----")]
    BadCertificates,
    /// There are certificates to verify with, and a URL that asks for none.
    #[error("key {key:?} is a {plain}:// URL although there is a ca.crt: write {plain}s://, with the port of TLS")]
    NotEncrypted {
        /// The key.
        key: &'static str,
        /// The scheme that it has.
        plain: &'static str,
    },
    /// The number of a database of Redis is none.
    #[error("key \"database\" is not the number of a database")]
    BadDatabase,
}

/// How a service is reached, and what of the Secret tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The URL. It holds a password.
    pub url: String,
    /// Certificates, in PEM, that the server's is verified with.
    pub ca: Option<Vec<u8>>,
    /// The keys that were used, and no other.
    pub keys: BTreeSet<&'static str>,
}

/// Makes the connection of `service` from the entries of a Secret. Where [`CA_KEY`] is among them the connection is made under TLS and the
/// server's certificate is verified.
///
/// # Errors
/// When no known set of keys is complete, or a value cannot be used.
pub fn connection(service: Service, entries: &BTreeMap<String, Vec<u8>>) -> Result<Connection, BindingError> {
    let mut reader = Reader { entries, used: BTreeSet::new() };
    let ca = reader.certificates()?;
    let url = url(service, &mut reader, ca.is_some())?;
    Ok(Connection { url, ca, keys: reader.used })
}

fn url(service: Service, reader: &mut Reader<'_>, tls: bool) -> Result<String, BindingError> {
    for key in service.uri_keys() {
        if let Some(uri) = reader.text(key)? {
            return checked_uri(service, key, uri, tls);
        }
    }
    let host = reader.need(service, &["host"])?;
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) {
        return Err(BindingError::BadHost);
    }
    let port = match reader.text("port")? {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port != 0).ok_or(BindingError::BadPort)?),
    };
    match service {
        Service::Postgres => {
            let (username, password) = reader.login(service)?;
            let database = escape(reader.need(service, &["database", "dbname"])?);
            Ok(format!("postgres://{username}:{password}@{host}:{}/{database}", port.unwrap_or(5432)))
        }
        Service::Rabbitmq => {
            let (username, password) = reader.login(service)?;
            // The default virtual host is named "/", which an AMQP URI writes as %2F (https://www.rabbitmq.com/docs/uri-spec).
            let vhost = escape(reader.text("vhost")?.unwrap_or("/"));
            let tls = tls || port == Some(AMQPS_PORT);
            let (scheme, usual) = if tls { ("amqps", AMQPS_PORT) } else { ("amqp", 5672) };
            Ok(format!("{scheme}://{username}:{password}@{host}:{}/{vhost}", port.unwrap_or(usual)))
        }
        Service::Redis => redis_url(reader, host, port, tls),
    }
}

/// Redis may ask for a password alone, or for nobody's name at all; its databases are numbers
/// (<https://www.iana.org/assignments/uri-schemes/prov/redis>).
fn redis_url(reader: &mut Reader<'_>, host: &str, port: Option<u16>, tls: bool) -> Result<String, BindingError> {
    let username = reader.text("username")?.map(escape).unwrap_or_default();
    let password = reader.text("password")?.map(escape);
    let database = reader.text("database")?.unwrap_or("0");
    let database = database.parse::<u32>().map_err(|_| BindingError::BadDatabase)?;
    let who = match password {
        Some(password) => format!("{username}:{password}@"),
        None if username.is_empty() => String::new(),
        None => format!("{username}@"),
    };
    let scheme = if tls { "rediss" } else { "redis" };
    Ok(format!("{scheme}://{who}{host}:{}/{database}", port.unwrap_or(6379)))
}

/// Reads entries and remembers which.
struct Reader<'a> {
    entries: &'a BTreeMap<String, Vec<u8>>,
    used: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    /// A present, non-empty value without the line end that editors leave behind.
    fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, BindingError> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        let value = std::str::from_utf8(value).map_err(|_| BindingError::NotText { key })?.trim_end();
        if value.is_empty() {
            return Ok(None);
        }
        self.used.insert(key);
        Ok(Some(value))
    }

    /// The first of these keys that is there.
    fn need(&mut self, service: Service, keys: &[&'static str]) -> Result<&'a str, BindingError> {
        let found = keys.iter().find_map(|key| self.text(key).transpose());
        found.unwrap_or(Err(BindingError::MissingKey { key: keys[0], expected: service.expected_keys() }))
    }

    /// Who logs in, and with what, as they stand in a URL.
    fn login(&mut self, service: Service) -> Result<(String, String), BindingError> {
        let username = escape(self.need(service, &["username", "user"])?);
        Ok((username, escape(self.need(service, &["password"])?)))
    }

    fn certificates(&mut self) -> Result<Option<Vec<u8>>, BindingError> {
        let Some(pem) = self.text(CA_KEY)? else {
            return Ok(None);
        };
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let whole = pem.matches(begin).count() == pem.matches(end).count();
        if !(whole && pem.contains(begin)) {
            return Err(BindingError::BadCertificates);
        }
        Ok(Some(pem.as_bytes().to_vec()))
    }
}

fn checked_uri(service: Service, key: &'static str, uri: &str, tls: bool) -> Result<String, BindingError> {
    let schemes = service.schemes();
    let url = Url::parse(uri).ok().filter(|url| schemes.contains(&url.scheme()) && url.has_host());
    let url = url.ok_or(BindingError::BadUri { key, scheme: schemes[0] })?;
    match service {
        Service::Rabbitmq | Service::Redis if tls && url.scheme() == schemes[0] => {
            Err(BindingError::NotEncrypted { key, plain: schemes[0] })
        }
        // The RabbitMQ Cluster Operator ends its URL with a slash, which would be the virtual host without a name; it means the default one.
        Service::Rabbitmq if url.path() == "/" && url.query().is_none() => {
            Ok(uri.strip_suffix('/').unwrap_or(uri).to_owned())
        }
        _ => Ok(uri.to_owned()),
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
        assert_eq!(connection(service, &entries).map(|connection| connection.url), expected.map(str::to_owned));
    }

    #[test]
    fn a_whole_url_is_taken_as_it_is() {
        check(Service::Postgres, &[("uri", "postgresql://u:p@h/d\n")], Ok("postgresql://u:p@h/d"));
        check(Service::Rabbitmq, &[("connection_string", "amqp://u:p@h:5672/v")], Ok("amqp://u:p@h:5672/v"));
        check(Service::Rabbitmq, &[("connection_string", "amqp://u:p@h:5672/")], Ok("amqp://u:p@h:5672"));
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
        assert_eq!(connection(Service::Postgres, &entries), Err(BindingError::NotText { key: "uri" }));
        let parts = [("host", "a b/c"), ("username", "a"), ("password", "b")];
        check(Service::Rabbitmq, &parts, Err(BindingError::BadHost));
        for pem in ["hunter2", "-----BEGIN CERTIFICATE-----\nMII"] {
            check(Service::Postgres, &[("uri", "postgres://h/d"), ("ca.crt", pem)], Err(BindingError::BadCertificates));
        }
    }

    #[test]
    fn certificates_mean_tls() {
        let ca = ("ca.crt", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n");
        let parts = [("host", "mq"), ("username", "a"), ("password", "b"), ca];
        check(Service::Rabbitmq, &parts, Ok("amqps://a:b@mq:5671/%2F"));
        let port = [("host", "mq"), ("username", "a"), ("password", "b"), ("port", "5671")];
        check(Service::Rabbitmq, &port, Ok("amqps://a:b@mq:5671/%2F"));
        check(Service::Rabbitmq, &[("uri", "amqps://a:b@mq:5671/v"), ca], Ok("amqps://a:b@mq:5671/v"));
        let refused = Err(BindingError::NotEncrypted { key: "uri", plain: "amqp" });
        check(Service::Rabbitmq, &[("uri", "amqp://a:b@mq:5672/v"), ca], refused);
    }

    #[test]
    fn redis_needs_no_more_than_a_host() {
        let ca = ("ca.crt", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n");
        check(Service::Redis, &[("uri", "rediss://u:p@h/3")], Ok("rediss://u:p@h/3"));
        check(Service::Redis, &[("host", "h")], Ok("redis://h:6379/0"));
        check(Service::Redis, &[("host", "h"), ("password", "p@"), ("database", "7")], Ok("redis://:p%40@h:6379/7"));
        let parts = [("host", "h"), ("username", "u"), ("password", "p"), ("port", "6380"), ca];
        check(Service::Redis, &parts, Ok("rediss://u:p@h:6380/0"));
        check(Service::Redis, &[("host", "h"), ("database", "chat")], Err(BindingError::BadDatabase));
        let expected = Service::Redis.expected_keys();
        check(Service::Redis, &[("password", "p")], Err(BindingError::MissingKey { key: "host", expected }));
        check(Service::Redis, &[("uri", "http://h")], Err(BindingError::BadUri { key: "uri", scheme: "redis" }));
        let refused = Err(BindingError::NotEncrypted { key: "uri", plain: "redis" });
        check(Service::Redis, &[("uri", "redis://h"), ca], refused);
    }

    #[test]
    fn the_keys_that_were_used_are_told_and_no_other() {
        let keys = |service, entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
            connection(service, &entries).unwrap().keys.into_iter().collect::<Vec<_>>()
        };
        let cnpg = [("uri", "postgres://h/d"), ("host", "db"), ("password", "b"), ("pgpass", "x")];
        assert_eq!(keys(Service::Postgres, &cnpg), ["uri"]);
        let parts = [("host", "mq"), ("user", "a"), ("password", "b"), ("port", "5671"), ("type", "rabbitmq")];
        assert_eq!(keys(Service::Rabbitmq, &parts), ["host", "password", "port", "user"]);
    }
}
