//! How often an address may be wrong: a bucket of tokens for each.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many wrong credentials an address may send.
#[derive(Debug, Clone, Copy)]
pub struct Ration {
    /// At once.
    pub burst: u32,
    /// And one more each time this has passed.
    pub every: Duration,
}

impl Default for Ration {
    fn default() -> Self {
        Ration { burst: 20, every: Duration::from_secs(1) }
    }
}

/// Addresses that are remembered. Who comes with more than these has other ways in.
const ADDRESSES_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Throttle {
    ration: Ration,
    /// When each address will have its full ration again.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Throttle {
    pub(super) fn new(ration: Ration) -> Throttle {
        Throttle { ration, full_at: Mutex::default() }
    }

    fn full_at(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an address has to wait for its next try, if it has none left.
    pub(super) fn wait_of(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let full_in = self.full_at().get(&network(peer))?.saturating_duration_since(now);
        let last_token_at = self.ration.every * self.ration.burst.saturating_sub(1);
        full_in.checked_sub(last_token_at).filter(|wait| !wait.is_zero())
    }

    /// Takes one try of an address before it is looked at: guesses that come at once are as many as any.
    /// An error is how long to wait for one.
    pub(super) fn take(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        match self.wait_of(peer, now) {
            Some(wait) => Err(wait),
            None => {
                self.count_failure(peer, now);
                Ok(())
            }
        }
    }

    /// The try was none: the credentials are right.
    pub(super) fn give_back(&self, peer: IpAddr) {
        if let Some(at) = self.full_at().get_mut(&network(peer)) {
            *at = at.checked_sub(self.ration.every).unwrap_or(*at);
        }
    }

    /// Takes a try, if there is one left. Who has none is no worse off for trying all the same.
    pub(super) fn count_failure(&self, peer: IpAddr, now: Instant) {
        let mut full_at = self.full_at();
        if full_at.len() >= ADDRESSES_MAX {
            full_at.retain(|_, at| *at > now);
        }
        if full_at.len() >= ADDRESSES_MAX && !full_at.contains_key(&network(peer)) {
            // The one that has nearly its full ration loses the least.
            let least = full_at.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            least.map(|address| full_at.remove(&address));
        }
        let at = full_at.entry(network(peer)).or_insert(now);
        *at = ((*at).max(now) + self.ration.every).min(now + self.ration.every * self.ration.burst);
    }
}

/// Of IPv6 a whole /64 is one subscriber's.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_one_by_one() {
        let throttle = Throttle::new(Ration { burst: 2, every: Duration::from_secs(10) });
        let (peer, start) = ("2001:db8::1".parse().unwrap(), Instant::now());
        let neighbour = "2001:db8::2".parse().unwrap();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.wait_of(peer, start), None);
        throttle.count_failure(peer, start);
        assert_eq!(throttle.wait_of(peer, start), None);
        throttle.count_failure(neighbour, start);
        assert_eq!(throttle.wait_of(peer, start), Some(Duration::from_secs(10)));
        assert_eq!(throttle.wait_of(peer, after(4)), Some(Duration::from_secs(6)));
        assert_eq!(throttle.wait_of(peer, after(10)), None);
        throttle.count_failure(peer, after(10));
        assert_eq!(throttle.wait_of(peer, after(10)), Some(Duration::from_secs(10)));
        assert_eq!(throttle.wait_of(peer, after(1000)), None);
    }

    #[test]
    fn a_try_is_taken_before_it_is_looked_at_and_no_debt_is_made() {
        let throttle = Throttle::new(Ration { burst: 2, every: Duration::from_secs(10) });
        let (peer, start) = ("10.0.0.1".parse().unwrap(), Instant::now());
        assert_eq!([0; 3].map(|_| throttle.take(peer, start).is_ok()), [true, true, false]);
        throttle.give_back(peer);
        assert_eq!([0; 2].map(|_| throttle.take(peer, start).is_ok()), [true, false]);
        (0..1000).for_each(|_| throttle.count_failure(peer, start));
        assert_eq!(throttle.wait_of(peer, start), Some(Duration::from_secs(10)));
    }

    #[test]
    fn addresses_are_bounded() {
        let throttle = Throttle::new(Ration::default());
        for number in 0..40_000u32 {
            throttle.count_failure(IpAddr::V4(number.into()), Instant::now());
        }
        assert!(throttle.full_at().len() <= ADDRESSES_MAX);
    }
}
