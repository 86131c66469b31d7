//! The file of users: a line `user:hash` each, as `api2bq gateway passwd` writes it.

use std::collections::BTreeMap;
use std::path::Path;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{
    PasswordHash, PasswordHashString, PasswordHasher as _, PasswordVerifier as _, SaltString,
};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::error::{Error, Result};

/// Users and the hashes of their passwords.
#[derive(Debug)]
pub struct Users {
    hashes: BTreeMap<String, PasswordHashString>,
    /// Compared for users that are not there, so that they take as long.
    nobody: PasswordHashString,
}

impl Users {
    pub fn read(path: &Path) -> Result<Users> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::usage(format!("cannot read the users in `{shown}`"))
                .caused_by(e)
                .hint("`api2bq gateway passwd --auth-file FILE USER` makes one")
        })?;
        Users::parse(&text, &shown)
    }

    /// Reads the lines of a file that is `shown` to people. Nothing of a line is: it may be a password.
    pub fn parse(text: &str, shown: &str) -> Result<Users> {
        let mut hashes = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| {
                Error::usage(format!("line {} of `{shown}` {what}", number + 1))
                    .hint("`api2bq gateway passwd --auth-file FILE USER` writes a user's line")
            };
            let (user, hash) = line.split_once(':').ok_or_else(|| wrong("is no `user:hash`"))?;
            let hash = PasswordHash::new(hash).map_err(|_| wrong("has no argon2 hash"))?;
            if Algorithm::try_from(hash.algorithm).is_err() || Params::try_from(&hash).is_err() {
                return Err(wrong("has no argon2 hash"));
            }
            if hashes.insert(user.to_owned(), hash.serialize()).is_some() {
                return Err(wrong("names a user that was named before"));
            }
        }
        let Some(first) = hashes.values().next() else {
            return Err(Error::usage(format!("there are no users in `{shown}`"))
                .hint("`api2bq gateway passwd --auth-file FILE USER` adds one"));
        };
        let nobody = hash_like(&first.password_hash(), b"")?;
        Ok(Users { hashes, nobody })
    }

    pub fn has(&self, user: &str) -> bool {
        self.hashes.contains_key(user)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().map(String::as_str)
    }

    /// Takes as long whether or not there is such a user.
    pub(super) fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.nobody).password_hash();
        let is_right = Argon2::default().verify_password(password, &hash).is_ok();
        is_right && known.is_some()
    }
}

/// A new hash of a password, for the file.
pub fn hash_password(password: &[u8]) -> Result<String> {
    hash(&Argon2::default(), password).map(|hash| hash.to_string())
}

/// A hash that costs what another one does.
fn hash_like(other: &PasswordHash<'_>, password: &[u8]) -> Result<PasswordHashString> {
    let cannot = |_| Error::usage("a hash in the file of users has wrong parameters");
    let algorithm = Algorithm::try_from(other.algorithm).map_err(cannot)?;
    let version = other.version.and_then(|version| Version::try_from(version).ok()).unwrap_or_default();
    let params = Params::try_from(other).map_err(cannot)?;
    hash(&Argon2::new(algorithm, version, params), password)
}

fn hash(argon2: &Argon2<'_>, password: &[u8]) -> Result<PasswordHashString> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = argon2.hash_password(password, &salt);
    hash.map(|hash| hash.serialize()).map_err(|e| Error::failed(format!("cannot hash a password: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_told_by_its_line_and_shows_no_secret() {
        let hash = hash_password(b"x").unwrap();
        let wrong = [
            ("", "there are no users in `u`"),
            ("ann hunter2", "line 1 of `u` is no `user:hash`"),
            ("#\nann:hunter2", "line 2 of `u` has no argon2 hash"),
            ("ann:$2b$12$hunter2", "line 1 of `u` has no argon2 hash"),
            (&format!("ann:{hash}\nann:{hash}"), "line 2 of `u` names a user that was named before"),
        ];
        for (text, message) in wrong {
            let error = Users::parse(text, "u").expect_err(text);
            assert_eq!(error.to_string(), message);
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn nobodys_password_costs_what_a_users_does() {
        let params = Params::new(8 << 10, 3, 1, Some(24)).unwrap();
        let dear = hash(&Argon2::new(Algorithm::Argon2i, Version::V0x13, params), b"x").unwrap();
        let users = Users::parse(&format!("ann:{dear}"), "u").unwrap();
        let (known, nobody) = (users.hashes["ann"].password_hash(), users.nobody.password_hash());
        assert_eq!((nobody.algorithm, nobody.version), (known.algorithm, known.version));
        assert_eq!(nobody.params, known.params);
        let length = |hash: &PasswordHash<'_>| hash.hash.map(|output| output.len());
        assert_eq!(length(&nobody), length(&known));
        assert!(!users.verify("bob", b"") && !users.verify("bob", b"x") && users.verify("ann", b"x"));
    }
}
