//! Bounds per client address, and whose word is taken for what a client's address is.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Bounds per client address. They hold only where the real address is known, so the operator switches them off behind an ingress that
/// is not among the trusted proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Addresses {
    /// Whether the bounds hold.
    pub enforced: bool,
    /// Who may say for whom a connection is made. Whatever anybody else says of it is not believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Where the trusted proxies say it.
    pub forwarded_header: ForwardedHeader,
    /// Open connections of web clients from one address. As many further sockets may be open for REST, or have not asked yet.
    pub web_connections_max: usize,
    /// Open connections of mobile clients from one address. The stricter of the two holds until a client says which it is.
    pub mobile_connections_max: usize,
    /// New connections from one address within the window.
    pub new_connections_max: usize,
    /// Length of the sliding window, in seconds.
    pub window_seconds: u64,
    /// Refusals within one window after which the address is shut out.
    pub refusals_max: usize,
    /// How long it is then shut out, in seconds.
    pub shut_out_seconds: u64,
    /// REST requests from one address in a second, lasting.
    pub requests_per_second_max: u32,
    /// REST requests from one address at once, after a while without any.
    pub requests_burst_max: u32,
}

impl Default for Addresses {
    fn default() -> Self {
        Addresses {
            enforced: true,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            web_connections_max: 50,
            mobile_connections_max: 20,
            new_connections_max: 100,
            window_seconds: 60,
            refusals_max: 100,
            shut_out_seconds: 300,
            requests_per_second_max: 100,
            requests_burst_max: 500,
        }
    }
}

/// The header in which a proxy says for whom it speaks. One and not both: a proxy that writes the one passes on the other as its client
/// wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A range of addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3). An address alone is the range that has only it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

/// Why a text is no [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    /// It is something else.
    #[error("{0:?} is no range of addresses: write one such as 10.0.0.0/8, fd00::/8 or 192.0.2.1")]
    Form(String),
    /// Bits behind the prefix are set, so that it is not clear which range is meant.
    #[error("{0:?} has bits behind its prefix: write {1}")]
    HostBits(String, IpNet),
    /// An IPv4 address in the clothes of IPv6 (RFC 4291 §2.5.5.2), as which no client is ever known.
    #[error("{0:?} is IPv4 written as IPv6: write it as IPv4")]
    Mapped(String),
}

impl Cidr {
    /// Whether an address is within.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let form = |_| BadCidr::Form(text.to_owned());
        let range = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(form)?,
        };
        match range.addr() {
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Err(BadCidr::Mapped(text.to_owned())),
            _ if range.trunc() != range => Err(BadCidr::HostBits(text.to_owned(), range.trunc())),
            _ => Ok(Cidr(range)),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let read = text.parse::<Cidr>().map(String::from).map_err(|error| error.to_string());
        match expected {
            Ok(range) => assert_eq!(read.as_deref(), Ok(range)),
            Err(says) => {
                assert!(read.as_ref().is_err_and(|error| error.contains(says)), "{read:?} does not say {says:?}")
            }
        }
    }

    #[test]
    fn ranges_are_read_and_mistakes_are_told_with_what_to_write() {
        check("10.0.0.0/8", Ok("10.0.0.0/8"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("192.0.2.1", Ok("192.0.2.1/32"));
        check("fd00::/8", Ok("fd00::/8"));
        check("2001:db8::1", Ok("2001:db8::1/128"));
        for nonsense in
            ["", "ten", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/-1", "10.0.0.0/8 ", "10.0.0.1:80"]
        {
            check(nonsense, Err("write one such as 10.0.0.0/8"));
        }
        check("10.0.0.1/8", Err("write 10.0.0.0/8"));
        check("fd00::1/8", Err("write fd00::/8"));
        check("::ffff:10.0.0.0/104", Err("write it as IPv4"));
    }

    #[test]
    fn a_range_has_the_addresses_of_its_own_family() {
        let has = |range: &str, address: &str| range.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.255.255") && !has("10.0.0.0/8", "11.0.0.0"));
        assert!(has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::"));
        assert!(!has("::/0", "10.0.0.1") && !has("0.0.0.0/0", "::1"));
    }
}
