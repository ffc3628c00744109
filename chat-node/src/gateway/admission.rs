//! Admission: how many connections an address may have, and how fast it may make them and ask over REST.
//!
//! Pure, with the time given. A sliding window counts an address's new connections; one that keeps exceeding it is shut out for a
//! while, so that refusing it costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use crds::node_config::Addresses;

use super::forwarded::limited_address;
use crate::{protocol::ClientType, rate::Rates};

/// Why an address is refused. Labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has as many connections as it may.
    TooManyConnections,
    /// It makes connections too fast.
    TooFast,
    /// It asks too often over REST.
    TooManyRequests,
    /// It kept exceeding the limits.
    ShutOut,
}

impl Refusal {
    /// The label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Refusal::TooManyConnections => "address_connections",
            Refusal::TooFast => "address_rate",
            Refusal::TooManyRequests => "address_requests",
            Refusal::ShutOut => "address_shut_out",
        }
    }
}

#[derive(Default)]
struct Address {
    /// Connections by the type that their client named; `None` until it did.
    open: HashMap<Option<ClientType>, usize>,
    /// When the connections of the window were made.
    made: VecDeque<Instant>,
    /// When the refusals of the window happened.
    refused: VecDeque<Instant>,
    shut_out_until: Option<Instant>,
}

/// Keeps the counts of all addresses.
pub(super) struct Admission {
    limits: Addresses,
    addresses: HashMap<IpAddr, Address>,
    requests: Rates<IpAddr>,
    swept: Option<Instant>,
}

impl Admission {
    /// Nobody is here yet.
    pub(super) fn new(limits: Addresses) -> Self {
        let requests = Rates::new(limits.requests_per_second_max, limits.requests_burst_max);
        Admission { limits, addresses: HashMap::new(), requests, swept: None }
    }

    /// A new connection, whose client has not named its type: the stricter limit holds for all such.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        if !self.limits.enforced {
            return Ok(());
        }
        self.sweep(now);
        let ip = limited_address(ip);
        let window = Duration::from_secs(self.limits.window_seconds);
        let strictest = self.limits.web_connections_max.min(self.limits.mobile_connections_max);
        let address = self.addresses.entry(ip).or_default();
        if address.shut_out_until.is_some_and(|until| now < until) {
            return Err(Refusal::ShutOut);
        }
        forget(&mut address.made, now, window);
        let unnamed = address.open.get(&None).copied().unwrap_or(0);
        let refusal = if address.made.len() >= self.limits.new_connections_max {
            Refusal::TooFast
        } else if unnamed >= strictest {
            Refusal::TooManyConnections
        } else {
            address.made.push_back(now);
            *address.open.entry(None).or_default() += 1;
            return Ok(());
        };
        self.refuse(ip, now);
        Err(refusal)
    }

    /// A REST request.
    ///
    /// # Errors
    /// The refusal, and how long to wait before the next has a chance.
    pub(super) fn request(&mut self, ip: IpAddr, now: Instant) -> Result<(), (Refusal, Duration)> {
        if !self.limits.enforced {
            return Ok(());
        }
        let ip = limited_address(ip);
        let shut_out_until = self.addresses.get(&ip).and_then(|address| address.shut_out_until);
        if let Some(until) = shut_out_until.filter(|until| now < *until) {
            return Err((Refusal::ShutOut, until.duration_since(now)));
        }
        if let Err(wait) = self.requests.take(&ip, now) {
            self.refuse(ip, now);
            return Err((Refusal::TooManyRequests, wait));
        }
        Ok(())
    }

    /// A connection's client has named its type.
    ///
    /// # Errors
    /// The refusal; the connection still counts until it is [left](Self::leave).
    pub(super) fn identify(&mut self, ip: IpAddr, client: ClientType, now: Instant) -> Result<(), Refusal> {
        if !self.limits.enforced {
            return Ok(());
        }
        let ip = limited_address(ip);
        let most = match client {
            ClientType::Web => self.limits.web_connections_max,
            ClientType::Mobile => self.limits.mobile_connections_max,
        };
        let Some(address) = self.addresses.get_mut(&ip) else { return Ok(()) };
        if address.open.get(&Some(client)).copied().unwrap_or(0) >= most {
            self.refuse(ip, now);
            return Err(Refusal::TooManyConnections);
        }
        lower(&mut address.open, &None);
        *address.open.entry(Some(client)).or_default() += 1;
        Ok(())
    }

    /// A connection has ended; `client` is what it was identified as.
    pub(super) fn leave(&mut self, ip: IpAddr, client: Option<ClientType>) {
        if let Some(address) = self.addresses.get_mut(&limited_address(ip)) {
            lower(&mut address.open, &client);
        }
    }

    fn refuse(&mut self, ip: IpAddr, now: Instant) {
        let window = Duration::from_secs(self.limits.window_seconds);
        let address = self.addresses.entry(ip).or_default();
        forget(&mut address.refused, now, window);
        address.refused.push_back(now);
        if address.refused.len() > self.limits.refusals_max {
            address.refused.clear();
            address.shut_out_until = Some(now + Duration::from_secs(self.limits.shut_out_seconds));
        }
    }

    /// Forgets addresses that have nothing to remember, once a window.
    fn sweep(&mut self, now: Instant) {
        let window = Duration::from_secs(self.limits.window_seconds);
        if self.swept.is_some_and(|swept| now < swept + window) {
            return;
        }
        self.swept = Some(now);
        self.addresses.retain(|_, address| {
            forget(&mut address.made, now, window);
            forget(&mut address.refused, now, window);
            let shut_out = address.shut_out_until.is_some_and(|until| now < until);
            shut_out || !address.open.is_empty() || !address.made.is_empty() || !address.refused.is_empty()
        });
    }
}

fn forget(times: &mut VecDeque<Instant>, now: Instant, window: Duration) {
    while times.front().is_some_and(|time| now.duration_since(*time) >= window) {
        times.pop_front();
    }
}

/// Takes one off a count, which is forgotten at none.
pub(super) fn lower<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn admission() -> Admission {
        Admission::new(Addresses {
            web_connections_max: 3,
            mobile_connections_max: 2,
            new_connections_max: 5,
            window_seconds: 60,
            refusals_max: 2,
            shut_out_seconds: 300,
            requests_per_second_max: 10,
            requests_burst_max: 2,
            ..Addresses::default()
        })
    }

    #[test]
    fn the_stricter_limit_holds_until_a_client_says_what_it_is() {
        let (mut admission, now) = (admission(), Instant::now());
        assert_eq!(admission.admit(IP, now), Ok(()));
        assert_eq!(admission.admit(IP, now), Ok(()));
        assert_eq!(admission.admit(IP, now), Err(Refusal::TooManyConnections));
        assert_eq!(admission.identify(IP, ClientType::Web, now), Ok(()));
        assert_eq!(admission.admit(IP, now), Ok(()));
        assert_eq!(admission.admit(OTHER, now), Ok(()), "addresses do not share");
    }

    #[test]
    fn each_type_has_its_own_limit_and_leaving_makes_room() {
        let (mut admission, now) = (admission(), Instant::now());
        for _ in 0..2 {
            admission.admit(IP, now).unwrap();
            admission.identify(IP, ClientType::Mobile, now).unwrap();
        }
        admission.admit(IP, now).unwrap();
        assert_eq!(admission.identify(IP, ClientType::Mobile, now), Err(Refusal::TooManyConnections));
        admission.leave(IP, Some(ClientType::Mobile));
        assert_eq!(admission.identify(IP, ClientType::Mobile, now), Ok(()));
    }

    #[test]
    fn one_type_takes_no_place_of_the_other() {
        let (mut admission, now) = (admission(), Instant::now());
        for client in [ClientType::Mobile, ClientType::Mobile, ClientType::Web, ClientType::Web, ClientType::Web] {
            admission.admit(IP, now).unwrap();
            assert_eq!(admission.identify(IP, client, now), Ok(()), "{client:?}");
        }
    }

    #[test]
    fn the_window_slides_and_persistence_shuts_out() {
        let (mut admission, start) = (admission(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..5 {
            admission.admit(IP, at(second)).unwrap();
            admission.leave(IP, None);
        }
        assert_eq!(admission.admit(IP, at(59)), Err(Refusal::TooFast));
        assert_eq!(admission.admit(IP, at(60)), Ok(()), "the first one left the window");
        admission.leave(IP, None);
        assert_eq!(admission.admit(IP, at(60)), Err(Refusal::TooFast));
        assert_eq!(admission.admit(IP, at(60)), Err(Refusal::TooFast));
        assert_eq!(admission.admit(IP, at(200)), Err(Refusal::ShutOut));
        assert_eq!(admission.admit(IP, at(361)), Ok(()));
    }

    #[test]
    fn requests_have_a_bucket_of_their_own_and_the_same_end() {
        let (mut admission, start) = (admission(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let too_many = Err((Refusal::TooManyRequests, Duration::from_millis(100)));
        assert_eq!([0, 0, 0].map(|ms| admission.request(IP, at(ms))), [Ok(()), Ok(()), too_many]);
        assert_eq!(admission.request(OTHER, at(0)), Ok(()), "addresses do not share");
        assert_eq!([100, 100, 100].map(|ms| admission.request(IP, at(ms))), [Ok(()), too_many, too_many]);
        assert_eq!(admission.request(IP, at(1_100)), Err((Refusal::ShutOut, Duration::from_secs(299))));
        assert_eq!(admission.admit(IP, at(1_100)), Err(Refusal::ShutOut), "a connection likewise");
        assert_eq!(admission.request(IP, at(300_100)), Ok(()));
    }

    #[test]
    fn where_addresses_are_not_known_nothing_holds() {
        let mut admission =
            Admission::new(Addresses { enforced: false, requests_burst_max: 1, ..Addresses::default() });
        let now = Instant::now();
        assert!((0..1_000).all(|_| admission.admit(IP, now).is_ok() && admission.request(IP, now).is_ok()));
    }

    #[test]
    fn addresses_without_anything_to_remember_are_forgotten() {
        let (mut admission, start) = (admission(), Instant::now());
        admission.admit(IP, start).unwrap();
        admission.leave(IP, None);
        admission.admit(OTHER, start + Duration::from_secs(61)).unwrap();
        assert_eq!(admission.addresses.len(), 1);
    }
}
