//! Addresses of servers that a node asks over HTTP.

use http::Uri;

/// Whether the node can make a request to an address: it reads it as this does, and ends at its start when it cannot.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}
