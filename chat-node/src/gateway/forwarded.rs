//! Whose request it is: the peer's, or whoever a trusted proxy says it speaks for.
//!
//! Pure. Each proxy appends whom it heard from, so the header is read from the right to the left, to the first address that is not a
//! trusted proxy's; what stands left of it is what a client may have made up. A header that cannot be read says nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use crds::node_config::{Addresses, Cidr, ForwardedHeader};

/// Proxies in a row that are looked through. Further ones are taken for the client.
const HOPS_MAX: usize = 32;

/// The client's address, as far as it is known.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, addresses: &Addresses) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, &addresses.trusted_proxies) {
        return peer;
    }
    let hops = match addresses.forwarded_header {
        ForwardedHeader::XForwardedFor => x_forwarded_for(headers),
        ForwardedHeader::Forwarded => forwarded(headers),
    };
    let mut known = peer;
    for hop in hops.into_iter().rev().take(HOPS_MAX) {
        // Whoever hides, or is written as something else, is not known: the proxy that tells of it is.
        let Some(address) = hop else { break };
        known = address;
        if !is_trusted(address, &addresses.trusted_proxies) {
            break;
        }
    }
    known
}

/// The address that the limits know a client by. An IPv6 host has a whole /64 to choose from (RFC 4291 §2.5.4), so that one counts.
pub(crate) fn limited_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// The address that a socket counts for before it says anything: none where the limits per address do not hold, and none for a proxy,
/// which speaks for many.
pub(crate) fn counted_address(peer: IpAddr, addresses: &Addresses) -> Option<IpAddr> {
    let counts = addresses.enforced && !is_trusted(peer.to_canonical(), &addresses.trusted_proxies);
    counts.then(|| limited_address(peer))
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// The hops of `X-Forwarded-For`, in the order of the header; `None` for what is no address.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for").iter();
    let hops = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    hops.map(|hop| std::str::from_utf8(hop).ok().and_then(|hop| node(hop.trim_matches([' ', '\t'])))).collect()
}

/// The hops of `Forwarded`. A line that breaks the grammar (RFC 7239 §4) may hide where its elements begin and end: then nothing of the
/// whole header is believed.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all("forwarded").iter();
    let read = lines.map(|line| line.to_str().ok().and_then(elements));
    read.collect::<Option<Vec<_>>>().map_or_else(Vec::new, |lines| lines.concat())
}

/// The elements of a line: for each the address in its `for`, if it has one.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = vec![None];
    let mut rest = line.trim_matches([' ', '\t']);
    loop {
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case("for") {
            *elements.last_mut()? = node(&value);
        }
        rest = after.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Some(elements);
        }
        if let Some(next) = rest.strip_prefix(',') {
            elements.push(None);
            rest = next;
        } else {
            rest = rest.strip_prefix(';')?;
        }
        rest = rest.trim_start_matches([' ', '\t']);
    }
}

/// A token, or a quoted string without its quotes (RFC 9110 §5.6.2, §5.6.4), and what follows.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

/// Characters of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address, with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const PROXIES: [&str; 3] = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"];

    #[track_caller]
    fn check(header: ForwardedHeader, peer: &str, lines: &[(&'static str, &str)], expected: &str) {
        let trusted_proxies = PROXIES.map(|range| range.parse().unwrap()).to_vec();
        let addresses = Addresses { trusted_proxies, forwarded_header: header, ..Addresses::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = client_address(peer.parse().unwrap(), &headers, &addresses);
        assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
    }

    #[track_caller]
    fn x(peer: &str, lines: &[&str], expected: &str) {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        check(ForwardedHeader::XForwardedFor, peer, &lines, expected);
    }

    #[track_caller]
    fn f(peer: &str, lines: &[&str], expected: &str) {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        check(ForwardedHeader::Forwarded, peer, &lines, expected);
    }

    #[test]
    fn only_a_trusted_peer_speaks_for_others() {
        x("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        x("11.0.0.1", &["198.51.100.1"], "11.0.0.1");
        x("::ffff:203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        x("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        x("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        x("fd00::1", &["2001:db8::5"], "2001:db8::5");
        x("192.0.2.7", &["198.51.100.1"], "198.51.100.1");
        x("192.0.2.8", &["198.51.100.1"], "192.0.2.8");
        f("203.0.113.9", &["for=198.51.100.1"], "203.0.113.9");
    }

    #[test]
    fn it_is_read_from_the_right_to_the_first_that_is_not_trusted() {
        x("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        x("10.0.0.1", &["6.6.6.6", "198.51.100.1,10.0.0.2", "fd00::3"], "198.51.100.1");
        x("10.0.0.1", &["10.6.6.6, 198.51.100.1"], "198.51.100.1");
        x("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        f("10.0.0.1", &["for=6.6.6.6, for=198.51.100.1;proto=https", "for=10.0.0.2"], "198.51.100.1");
        f("10.0.0.1", &["by=1.1.1.1;for=10.0.0.3;host=\"a,b;c\", for=10.0.0.2"], "10.0.0.3");
        let many = (0..2 * HOPS_MAX).map(|hop| format!("10.1.0.{hop}")).collect::<Vec<_>>().join(",");
        x("10.0.0.1", &[&many], &format!("10.1.0.{HOPS_MAX}"));
    }

    #[test]
    fn addresses_are_written_in_many_ways() {
        for (hop, expected) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("\t198.51.100.1 ", "198.51.100.1"),
            ("2001:db8::5", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
            ("[2001:db8::5]:4711", "2001:db8::5"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            x("10.0.0.1", &[hop], expected);
        }
        for (hop, expected) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("FOR=198.51.100.1", "198.51.100.1"),
            ("for=\"198.51.100.1:4711\"", "198.51.100.1"),
            ("For=\"[2001:db8::5]:4711\"", "2001:db8::5"),
            ("for=\"[2001:db8::5]\" ; proto=http", "2001:db8::5"),
            (r#"for="198.51\.100.1""#, "198.51.100.1"),
        ] {
            f("10.0.0.1", &[hop], expected);
        }
    }

    #[test]
    fn whoever_hides_leaves_the_proxy_that_tells_of_it() {
        x("10.0.0.1", &[], "10.0.0.1");
        for hop in [
            "",
            "unknown",
            "localhost",
            "198.51.100.1, ",
            "198.51.100.1, x",
            "198.51.100.300",
            "[198.51.100.1",
            "\u{e9}",
        ] {
            x("10.0.0.1", &[hop], "10.0.0.1");
        }
        x("10.0.0.1", &["unknown, 10.0.0.2"], "10.0.0.2");
        x("10.0.0.1", &["unknown, 198.51.100.1"], "198.51.100.1");
        f("10.0.0.1", &["for=unknown"], "10.0.0.1");
        f("10.0.0.1", &["for=_hidden, for=10.0.0.2"], "10.0.0.2");
        f("10.0.0.1", &["proto=http"], "10.0.0.1");
        f("10.0.0.1", &["for=198.51.100.1, by=10.0.0.2"], "10.0.0.1");
    }

    #[test]
    fn a_header_that_breaks_the_grammar_says_nothing() {
        for line in [
            "",
            "for",
            "for=",
            "=198.51.100.1",
            "for=198.51.100.1,",
            "for=198.51.100.1;",
            "for=198.51.100.1 proto=http",
            "for=\"198.51.100.1",
            "for=\"198.51.100.1\\",
            "for=\"198.51.100.1\"x",
            "for=[2001:db8::5]",
            "fo r=198.51.100.1",
            // A client that leaves a quote open cannot make the proxy's own element part of its string.
            "for=\"6.6.6.6, for=198.51.100.1",
            "for=\"6.6.6.6, for=\"198.51.100.1\"",
        ] {
            f("10.0.0.1", &[line], "10.0.0.1");
            f("10.0.0.1", &[line, "for=198.51.100.1"], "10.0.0.1");
        }
    }

    #[test]
    fn only_the_configured_header_is_believed() {
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.1")];
        check(ForwardedHeader::XForwardedFor, "10.0.0.1", &both, "198.51.100.1");
        check(ForwardedHeader::Forwarded, "10.0.0.1", &both, "6.6.6.6");
        check(ForwardedHeader::Forwarded, "10.0.0.1", &both[1..], "10.0.0.1");
    }

    #[test]
    fn ipv6_is_limited_by_its_first_half() {
        for (address, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::", "2001:db8:1:3::"),
            ("::1", "::"),
        ] {
            assert_eq!(limited_address(address.parse().unwrap()).to_string(), expected);
        }
    }
}
