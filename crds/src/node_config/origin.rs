//! Where a browser's page may come from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

/// An origin (RFC 6454 §6.2) in one form of writing, so that equal ones are equal: `https://chat.example.org`, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: write one such as https://chat.example.org or http://localhost:3000, without a path, or \"*\" for any"
)]
pub struct BadOrigin(String);

impl Origin {
    /// The origin of whatever is served at `host` (`name` or `name:port`), for a page of the same scheme as this one.
    pub fn at_host(&self, host: &str) -> Option<Origin> {
        let (scheme, _) = self.0.split_once("://")?;
        format!("{scheme}://{host}").parse().ok()
    }

    /// Whether it stands for every origin.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = || BadOrigin(text.to_owned());
        if text == "*" {
            return Ok(Origin(text.to_owned()));
        }
        let (_, authority) = text.split_once("://").ok_or_else(bad)?;
        if authority.contains(['/', '\\', '?', '#', '@', '*']) || authority.chars().any(char::is_whitespace) {
            return Err(bad());
        }
        // It leaves out the port that goes without saying, and writes the host in small letters.
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?.to_ascii_lowercase();
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        Ok(Origin(format!("{}://{host}{port}", url.scheme())))
    }
}

impl TryFrom<String> for Origin {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(text.parse::<Origin>().ok().map(String::from).as_deref(), expected, "{text}");
    }

    #[test]
    fn an_origin_is_written_in_one_way() {
        check("https://chat.example.org", Some("https://chat.example.org"));
        check("HTTPS://Chat.Example.ORG:443", Some("https://chat.example.org"));
        check("http://chat.example.org:443", Some("http://chat.example.org:443"));
        check("http://[::1]:3000", Some("http://[::1]:3000"));
        check("capacitor://localhost", Some("capacitor://localhost"));
        check("*", Some("*"));
        for bad in [
            "",
            "null",
            "chat.example.org",
            "https://",
            "https://chat.example.org/",
            "https://chat.example.org/app",
            "https://a@b",
            "https://a b",
            "https://a?b",
            "https://a#b",
            "https:\\\\a",
            "https://*.example.org",
            "https://a:x",
            "file:///x",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn the_same_host_has_the_scheme_of_the_page() {
        let at = |page: &str, host: &str| page.parse::<Origin>().unwrap().at_host(host).map(String::from);
        assert_eq!(at("https://a.org", "A.org:443").as_deref(), Some("https://a.org"));
        assert_eq!(at("http://a.org:8080", "a.org:8080").as_deref(), Some("http://a.org:8080"));
        assert_eq!(at("http://a.org", "a.org/x"), None);
        assert_eq!(at("*", "a.org"), None);
    }
}
