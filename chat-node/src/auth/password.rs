//! Passwords of built-in accounts: Argon2id (RFC 9106), on few threads at once, because each hash takes 19 MiB and a core for a while.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

/// Hashes at once.
const AT_ONCE_MAX: usize = 2;

const USERNAME_BYTES_MAX: usize = 64;
const PASSWORD_CHARACTERS_MIN: usize = 8;
const PASSWORD_CHARACTERS_MAX: usize = 1024;

/// A rule that a new account breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRule(pub &'static str);

/// Checks a new username.
///
/// # Errors
/// The rule that it breaks.
pub fn check_username(name: &str) -> Result<(), PasswordRule> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    let good = (1..=USERNAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    good.then_some(())
        .ok_or(PasswordRule("a username has 1 to 64 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit"))
}

/// Checks a new password.
///
/// # Errors
/// The rule that it breaks.
pub fn check_password(password: &str) -> Result<(), PasswordRule> {
    let good = (PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX).contains(&password.chars().count());
    good.then_some(()).ok_or(PasswordRule("a password has 8 to 1024 characters"))
}

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

impl Passwords {
    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub async fn hash(&self, password: String) -> Result<String, argon2::password_hash::Error> {
        self.turn(move || Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())).await
    }

    /// Compares a password with a hash. Without a hash it takes as long, so that nobody learns which names exist.
    pub async fn verify(&self, password: String, hash: Option<String>) -> bool {
        /// A hash of nothing that anyone knows.
        const NOBODY: &str =
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$ZHHYMRyIPPDHcAYDkZ3Cjcd9cRCHIRBwQR94pLvbPEU";
        self.turn(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.into());
            let parsed = PasswordHash::new(&hash);
            let matches =
                parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
            matches && known
        })
        .await
    }

    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await);
        assert!(!passwords.verify("correct horsf".into(), Some(hash)).await);
        assert!(!passwords.verify("correct horse".into(), None).await);
    }

    #[test]
    fn names_and_passwords_are_held_to_rules() {
        for good in ["a", "alice", "4-ever.under_score"] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in ["", "Alice", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
        assert!(check_password("1234567").is_err() && check_password(&"x".repeat(1025)).is_err());
        assert_eq!(check_password("12345678"), Ok(()));
    }
}
