//! Whether a browser's page may open a WebSocket here. A browser lets any page open one anywhere, and tells only where the page came
//! from (RFC 6455 §10.2); other programs tell nothing, and are not kept out by it.

use axum::http::{HeaderMap, header};
use crds::node_config::Origin;

/// Whether whoever asks with these headers may: no page, a page of this very host, or one of an origin that is allowed.
pub(super) fn is_allowed(headers: &HeaderMap, allowed: &[Origin]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if allowed.iter().any(Origin::is_any) {
        return true;
    }
    let read = origin.to_str().ok().and_then(|origin| origin.parse::<Origin>().ok());
    let (Some(origin), None) = (read, origins.next()) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // "*" is no origin that a page can have.
    !origin.is_any()
        && (allowed.contains(&origin) || host.and_then(|host| origin.at_host(host)).as_ref() == Some(&origin))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(allowed: &[&str], host: &str, origins: &[&str], expected: bool) {
        let allowed: Vec<Origin> = allowed.iter().map(|origin| origin.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        assert_eq!(is_allowed(&headers, &allowed), expected, "{allowed:?} {host} {origins:?}");
    }

    #[test]
    fn who_may() {
        let host = "chat.example.org";
        check(&[], host, &[], true);
        check(&[], host, &["https://chat.example.org"], true);
        check(&[], host, &["http://chat.example.org"], true);
        check(&[], "chat.example.org:443", &["https://Chat.example.org"], true);
        check(&[], "127.0.0.1:8080", &["http://127.0.0.1:8080"], true);
        for other in [
            "https://evil.example.org",
            "https://chat.example.org.evil.org",
            "https://chat.example.org:8443",
            "null",
            "*",
            "",
            "chat.example.org",
            "\u{e9}",
        ] {
            check(&[], host, &[other], false);
            check(&["https://app.example.org"], host, &[other], false);
        }
        check(&["https://app.example.org"], host, &["https://app.example.org:443"], true);
        check(&["https://app.example.org"], host, &["http://app.example.org"], false);
        check(&["capacitor://localhost"], host, &["capacitor://localhost"], true);
        check(&["*"], host, &["https://evil.example.org"], true);
        check(&["*"], host, &["null"], true);
        check(&[], host, &["https://chat.example.org", "https://chat.example.org"], false);
    }
}
