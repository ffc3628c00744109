//! Places for sockets, of which an address has no more than its share: else one client could hold all of them and say nothing.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use super::admission::lower;

/// The places of a server.
pub(super) struct Places {
    all_max: usize,
    address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// A place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

impl Places {
    /// So many, and so many of them for one address.
    pub(super) fn new(all_max: usize, address_max: usize) -> Arc<Places> {
        Arc::new(Places { all_max, address_max, taken: Mutex::default() })
    }

    /// Takes one, for an address where one is known.
    ///
    /// # Errors
    /// Why there is none: a label of the metric of refusals.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, &'static str> {
        let mut taken = self.taken.lock();
        if taken.all >= self.all_max {
            return Err("node_sockets");
        }
        if let Some(address) = address {
            let of_address = taken.of.entry(address).or_default();
            if *of_address >= self.address_max {
                return Err("address_sockets");
            }
            *of_address += 1;
        }
        taken.all += 1;
        Ok(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(address) = &self.address {
            lower(&mut taken.of, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn an_address_has_its_share_and_all_have_what_there_is() {
        let places = Places::new(4, 2);
        let (first, _second) = (places.take(ONE).unwrap(), places.take(ONE).unwrap());
        assert_eq!(places.take(ONE).err(), Some("address_sockets"));
        let (_third, fourth) = (places.take(OTHER).unwrap(), places.take(None).unwrap());
        assert_eq!(places.take(None).err(), Some("node_sockets"), "whose address is not known, too");
        drop(fourth);
        assert_eq!(places.take(ONE).err(), Some("address_sockets"), "a place of others is none of its own");
        drop(first);
        let again = places.take(ONE).unwrap();
        drop(again);
        assert_eq!(places.taken.lock().of.len(), 2);
    }

    #[test]
    fn an_address_that_is_gone_is_forgotten() {
        let places = Places::new(4, 2);
        drop((places.take(ONE).unwrap(), places.take(ONE).unwrap(), places.take(None).unwrap()));
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.of.len()), (0, 0));
    }
}
