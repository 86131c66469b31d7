//! Who may post: Basic credentials against a file of argon2 hashes.
//!
//! A hash takes tens of milliseconds, by design, and 5,000 requests come in a second. So a verdict is
//! remembered, right or wrong, under a hash of the credentials with a key that only this process has;
//! both kinds are found in the same way and after the same work. What was not asked before is hashed on
//! few threads, and so is the password of a user that does not exist. Guesses are rationed by address.

mod throttle;
mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use crate::error::{Error, Result};
pub use throttle::Ration;
use throttle::Throttle;
pub use users::{Users, hash_password};

/// Verdicts in each of two generations; when one is full, the older one is forgotten.
const VERDICTS_MAX: usize = 4096;
/// Passwords hashed at once: one core is left for those who are known.
const HASHING_MAX: usize = 1;
/// Credentials that wait for that; at 50 ms each the last ones wait for 3 s. How many requests bring the
/// same ones does not count: after a start all of a busy sender's do.
const WAITING_MAX: usize = 64;
/// A header longer than this holds no credentials of ours.
const HEADER_BYTES_MAX: usize = 4096;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// There are no credentials, or they are wrong; which of both is not said.
    Unauthorized,
    /// Too many wrong ones came from this address.
    TooMany { retry_after: Duration },
    /// Too many new ones are being looked at.
    Busy,
}

/// The door.
#[derive(Debug)]
pub struct Gate {
    users: Arc<Users>,
    key: [u8; 32],
    verdicts: Mutex<Verdicts>,
    hashing: Semaphore,
    /// Credentials that are being looked at, for all who brought them.
    looks: Mutex<HashMap<[u8; 32], Arc<OnceCell<Verdict>>>>,
    throttle: Throttle,
}

type Verdict = Option<Arc<str>>;

#[derive(Debug, Default)]
struct Verdicts {
    young: HashMap<[u8; 32], Verdict>,
    old: HashMap<[u8; 32], Verdict>,
}

impl Verdicts {
    fn find(&self, key: &[u8; 32]) -> Option<Verdict> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    fn remember(&mut self, key: [u8; 32], verdict: Verdict) {
        if self.young.len() >= VERDICTS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verdict);
    }
}

impl Gate {
    pub fn new(users: Users, ration: Ration) -> Result<Gate> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key).map_err(|e| Error::failed("cannot get random bytes").caused_by(e))?;
        Ok(Gate {
            users: Arc::new(users),
            key,
            verdicts: Mutex::default(),
            hashing: Semaphore::new(HASHING_MAX),
            looks: Mutex::default(),
            throttle: Throttle::new(ration),
        })
    }

    /// Everybody who may be let in.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.names()
    }

    /// The user that an `Authorization` header stands for.
    pub async fn check(&self, peer: IpAddr, header: Option<&[u8]>) -> Result<Arc<str>, Denied> {
        // Also for right credentials: or else guesses would be free against those that are remembered.
        if let Some(retry_after) = self.throttle.wait_of(peer, Instant::now()) {
            return Err(Denied::TooMany { retry_after });
        }
        let Some(header) = header else { return Err(Denied::Unauthorized) };
        let key: [u8; 32] = Sha256::new().chain_update(self.key).chain_update(header).finalize().into();
        let verdict = match self.find(&key) {
            Some(verdict) => {
                if verdict.is_none() {
                    self.throttle.count_failure(peer, Instant::now());
                }
                verdict
            }
            None => self.look(peer, key, header).await?,
        };
        verdict.ok_or(Denied::Unauthorized)
    }

    fn find(&self, key: &[u8; 32]) -> Option<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).find(key)
    }

    /// Looks at credentials that are not known yet, once for all who bring them.
    async fn look(&self, peer: IpAddr, key: [u8; 32], header: &[u8]) -> Result<Verdict, Denied> {
        let (look, is_first) = self.join(peer, key)?;
        // Who began may go away; then the next one goes on.
        let verdict = look.cell.get_or_try_init(|| self.hash(key, header)).await.cloned();
        if is_first && matches!(verdict, Ok(Some(_))) {
            self.throttle.give_back(peer);
        }
        verdict
    }

    /// The look at these credentials, and whether this is who began it, which takes a try.
    fn join(&self, peer: IpAddr, key: [u8; 32]) -> Result<(Look<'_>, bool), Denied> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !looks.contains_key(&key);
        if is_first && looks.len() >= WAITING_MAX {
            return Err(Denied::Busy);
        }
        if is_first {
            let taken = self.throttle.take(peer, Instant::now());
            taken.map_err(|retry_after| Denied::TooMany { retry_after })?;
        }
        let cell = Arc::clone(looks.entry(key).or_default());
        Ok((Look { gate: self, key, cell }, is_first))
    }

    async fn hash(&self, key: [u8; 32], header: &[u8]) -> Result<Verdict, Denied> {
        let _turn = self.hashing.acquire().await.map_err(|_| Denied::Busy)?;
        let (users, credentials) = (Arc::clone(&self.users), credentials(header));
        let looked = tokio::task::spawn_blocking(move || {
            let (user, password) = credentials.unwrap_or_default();
            users.verify(&user, &password).then(|| Arc::from(user))
        });
        let verdict = looked.await.map_err(|_| Denied::Busy)?;
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).remember(key, verdict.clone());
        Ok(verdict)
    }
}

/// One of those who wait for the same verdict.
struct Look<'g> {
    gate: &'g Gate,
    key: [u8; 32],
    cell: Arc<OnceCell<Verdict>>,
}

impl Drop for Look<'_> {
    /// The last one clears up. All that join or leave hold the lock as they do.
    fn drop(&mut self) {
        let mut looks = self.gate.looks.lock().unwrap_or_else(PoisonError::into_inner);
        self.cell = Arc::default();
        if looks.get(&self.key).is_some_and(|cell| Arc::strong_count(cell) == 1) {
            looks.remove(&self.key);
        }
    }
}

/// User and password of a Basic header, as RFC 7617 has them. The scheme is in any case.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let header = std::str::from_utf8(header).ok().filter(|header| header.len() <= HEADER_BYTES_MAX)?;
    let (scheme, encoded) = header.trim().split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(credentials: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(credentials)).into_bytes()
    }

    fn gate(ration: Ration) -> Gate {
        let file = format!("# people\n\nann:{}\n", hash_password(b"a:b c").unwrap());
        Gate::new(Users::parse(&file, "users.txt").unwrap(), ration).unwrap()
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_opens() {
        let gate = gate(Ration { burst: 100, every: Duration::from_secs(1) });
        let lower = [&b"bAsIc "[..], &basic("ann:a:b c")[6..]].concat();
        for header in [basic("ann:a:b c"), basic("ann:a:b c"), lower] {
            assert_eq!(gate.check(PEER, Some(&header)).await.as_deref(), Ok("ann"));
        }
        let wrong =
            ["Basic !!!notbase64", "Basic", "", "Bearer YTpi", "Basic YQ=="].map(|h| h.as_bytes().to_vec());
        let wrong = wrong.into_iter().chain(["ann:", "ann:a:b", "bob:a:b c", ":", "Ann:a:b c"].map(basic));
        for header in wrong.chain([vec![0xff; 20], basic(&"x".repeat(5000))]) {
            let shown = String::from_utf8_lossy(&header).into_owned();
            for _ in 0..2 {
                assert_eq!(gate.check(PEER, Some(&header)).await, Err(Denied::Unauthorized), "{shown}");
            }
        }
        assert_eq!(gate.check(PEER, None).await, Err(Denied::Unauthorized));
    }

    #[tokio::test]
    async fn guesses_run_out_and_the_right_password_waits_with_them() {
        let gate = gate(Ration { burst: 3, every: Duration::from_secs(60) });
        for _ in 0..3 {
            assert_eq!(gate.check(PEER, Some(&basic("ann:x"))).await, Err(Denied::Unauthorized));
        }
        for guess in ["ann:x", "ann:a:b c"] {
            let denied = gate.check(PEER, Some(&basic(guess))).await;
            assert!(matches!(denied, Err(Denied::TooMany { .. })), "{guess}");
        }
        let other = "10.0.0.1".parse().unwrap();
        assert!(gate.check(other, Some(&basic("ann:a:b c"))).await.is_ok(), "others are not held up");
    }

    /// After a restart a hundred requests of one sender were there before its password was hashed, and
    /// those behind the first 64 were told that the gateway is busy.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_brings_the_same_credentials_waits_for_one_hash_and_strangers_for_theirs() {
        let gate = Arc::new(gate(Ration { burst: 10_000, every: Duration::from_secs(1) }));
        let turn = gate.hashing.acquire().await.unwrap();
        let mut senders = tokio::task::JoinSet::new();
        let mut send = |credentials: String| {
            let gate = Arc::clone(&gate);
            senders.spawn(async move { gate.check(PEER, Some(&basic(&credentials))).await })
        };
        let first = send("ann:a:b c".into());
        let waiting = async |count| {
            while gate.looks.lock().unwrap().len() != count {
                tokio::task::yield_now().await;
            }
        };
        waiting(1).await;
        (0..400).for_each(|_| drop(send("ann:a:b c".into())));
        // Its connection is cut; the others go on without it.
        first.abort();
        (0..100).for_each(|number| drop(send(format!("ann:{number}"))));
        waiting(WAITING_MAX).await;
        drop(turn);
        let (mut let_in, mut wrong, mut busy) = (0, 0, 0);
        while let Some(ended) = senders.join_next().await {
            match ended {
                Ok(Ok(_)) => let_in += 1,
                Ok(Err(Denied::Unauthorized)) => wrong += 1,
                Ok(Err(Denied::Busy)) => busy += 1,
                Err(error) if error.is_cancelled() => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((let_in, wrong + busy), (400, 100));
        assert!(busy > 0 && wrong >= WAITING_MAX - 1, "{wrong} strangers were looked at");
        assert!(gate.looks.lock().unwrap().is_empty(), "nobody waits any more");
    }

    #[test]
    fn verdicts_are_bounded() {
        let mut verdicts = Verdicts::default();
        for number in 0..20_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            verdicts.remember(key, None);
        }
        assert!(verdicts.young.len() + verdicts.old.len() <= 2 * VERDICTS_MAX);
    }
}
