//! Idempotency keys: the same request sent again gets the same answer, and is stored once.
//!
//! A key is durable with its body, in the same record of the spool. Here they are only looked up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::letter::{Head, Key};

/// How many keys are remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Remembered {
    /// Of what was answered to them, which is some 500 bytes each. Users have equal shares of it: none makes
    /// the gateway forget the keys of others.
    pub bytes_max: usize,
    pub age_max: Duration,
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered { bytes_max: 128 << 20, age_max: Duration::from_secs(24 * 3600) }
    }
}

/// A key's slot: `None` until a request with it was stored. Held while one is on its way.
pub(super) type Slot = OwnedMutexGuard<Option<Arc<Head>>>;

/// The keys of all users.
#[derive(Debug)]
pub(super) struct Keys {
    age_max: Duration,
    /// Of one user.
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<String, Arc<tokio::sync::Mutex<Option<Arc<Head>>>>>,
    answered: HashMap<String, Answered>,
}

/// The keys of one user that were answered, in that order: key, when, bytes.
#[derive(Debug, Default)]
struct Answered {
    keys: VecDeque<(String, u64, usize)>,
    bytes: usize,
}

impl Keys {
    pub(super) fn new(remembered: Remembered, num_users: usize) -> Keys {
        let Remembered { bytes_max, age_max } = remembered;
        Keys { age_max, bytes_max: bytes_max / num_users.max(1), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of a key. Waits while another request with the same key is on its way.
    pub(super) async fn slot(&self, key: &Key) -> Slot {
        let slot = Arc::clone(self.state().slots.entry(key.key_sha256.clone()).or_default());
        slot.lock_owned().await
    }

    /// Takes note that a key was answered, and forgets those that are too old or too many.
    pub(super) fn answered(&self, mut slot: Slot, head: Arc<Head>) {
        let Some(key) = head.key.as_ref().map(|key| key.key_sha256.clone()) else { return };
        let (now, bytes, user) = (head.unix_ms, weight(&head), head.user.clone());
        *slot = Some(head);
        drop(slot);
        let State { slots, answered } = &mut *self.state();
        let of_user = answered.entry(user).or_default();
        of_user.bytes += bytes;
        of_user.keys.push_back((key, now, bytes));
        let age_max = u64::try_from(self.age_max.as_millis()).unwrap_or(u64::MAX);
        while let Some((_, at, _)) = of_user.keys.front() {
            if of_user.bytes <= self.bytes_max && now.saturating_sub(*at) <= age_max {
                break;
            }
            let Some((key, _, bytes)) = of_user.keys.pop_front() else { break };
            slots.remove(&key);
            of_user.bytes -= bytes;
        }
    }

    /// A request that failed leaves no slot behind, unless others wait for it.
    pub(super) fn failed(&self, slot: Slot, key: &Key) {
        drop(slot);
        let mut state = self.state();
        let is_idle = |slot: &Arc<tokio::sync::Mutex<_>>| {
            Arc::strong_count(slot) == 1
                && slot.try_lock().is_ok_and(|slot: tokio::sync::MutexGuard<'_, Option<_>>| slot.is_none())
        };
        if state.slots.get(&key.key_sha256).is_some_and(is_idle) {
            state.slots.remove(&key.key_sha256);
        }
    }

    /// Takes note of a key that the spool has, at a start.
    pub(super) fn restore(&self, head: Head) {
        let Some(key) = &head.key else { return };
        let slot = Arc::clone(self.state().slots.entry(key.key_sha256.clone()).or_default());
        if let Ok(slot) = slot.try_lock_owned() {
            self.answered(slot, Arc::new(head));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state().slots.len()
    }
}

/// The key of a request, as it is stored: without what the sender wrote, which may be a secret.
pub(super) fn key_of(user: &str, pipeline: &str, key: &[u8], body: &[u8], is_lines: bool) -> Key {
    let of = |parts: &[&[u8]]| {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        format!("{:x}", hash.finalize())
    };
    Key {
        key_sha256: of(&[user.as_bytes(), pipeline.as_bytes(), key]),
        body_sha256: of(&[&[u8::from(is_lines)], body]),
    }
}

fn weight(head: &Head) -> usize {
    let rejected = head.rejected.iter().map(|r| 100 + r.field.as_ref().map_or(0, String::len));
    let ignored = head.ignored.iter().map(|name| 50 + name.len());
    540 + rejected.chain(ignored).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, unix_ms: u64) -> Head {
        head_of("ann", number, unix_ms)
    }

    fn head_of(user: &str, number: u64, unix_ms: u64) -> Head {
        let key = key_of(user, "inventory", &number.to_le_bytes(), b"{}", false);
        Head {
            id: number.to_string(),
            pipeline: "inventory".into(),
            unix_ms,
            user: user.into(),
            is_lines: false,
            accepted: 1,
            columns: None,
            rejected: Vec::new(),
            ignored: Vec::new(),
            key: Some(key),
        }
    }

    #[tokio::test]
    async fn keys_of_a_user_are_forgotten_by_number_and_by_age_the_oldest_first() {
        let remembered = Remembered { bytes_max: 3400, age_max: Duration::from_millis(100) };
        let keys = Keys::new(remembered, 2);
        keys.restore(head_of("bob", 0, 0));
        for number in 0..5 {
            keys.restore(head(number, 10));
        }
        let known = async |number| keys.slot(&head(number, 0).key.unwrap()).await.is_some();
        assert!(!known(1).await && known(2).await && known(4).await);
        keys.restore(head(9, 200));
        assert!(!known(4).await && known(9).await);
        let of_bob = head_of("bob", 0, 0).key.unwrap();
        assert!(keys.slot(&of_bob).await.is_some(), "ann's are not in the way of bob's");
    }

    #[tokio::test]
    async fn one_request_of_a_key_at_a_time_and_none_is_left_by_failures() {
        let keys = Arc::new(Keys::new(Remembered::default(), 1));
        let key = head(1, 0).key.unwrap();
        let first = keys.slot(&key).await;
        let second = tokio::spawn({
            let (keys, key) = (Arc::clone(&keys), key.clone());
            async move { keys.slot(&key).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        keys.answered(first, Arc::new(head(1, 0)));
        assert!(second.await.unwrap());
        for number in 10..20 {
            let key = head(number, 0).key.unwrap();
            let slot = keys.slot(&key).await;
            keys.failed(slot, &key);
        }
        assert_eq!(keys.len(), 1);
    }
}
