//! Passwords of built-in accounts: Argon2id (RFC 9106), on few threads at once, because each hash takes 19 MiB and a core for a while.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

/// Hashes at once.
const AT_ONCE_MAX: usize = 2;

/// Hashes that wait for their turn. Beyond, a request is better told to come back.
const WAITING_MAX: usize = 100;

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

/// Passwords of at least 8 characters that lists of leaked ones begin with, sorted, in lower case.
const COMMON: &str = include_str!("common_passwords.txt");

/// Checks a new password, by what NIST SP 800-63B §5.1.1.2 asks for: long enough, and not among the first that anybody tries. It need not
/// have digits or capitals.
///
/// # Errors
/// The rule that it breaks.
pub fn check_password(password: &str, username: &str) -> Result<(), PasswordRule> {
    if !(PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX).contains(&password.chars().count()) {
        return Err(PasswordRule("a password has 8 to 1024 characters"));
    }
    let lower = password.to_lowercase();
    if lower == username {
        return Err(PasswordRule("a password is not the username: choose another"));
    }
    if is_run(&lower) || COMMON.lines().any(|common| common == lower) {
        return Err(PasswordRule("this password is among the first that anybody tries: choose another"));
    }
    Ok(())
}

/// Whether each character is the one before, or the next or the former of it: `aaaaaaaa`, `12345678`, `hgfedcba`.
fn is_run(password: &str) -> bool {
    let codes: Vec<i64> = password.chars().map(|c| i64::from(u32::from(c))).collect();
    // The digits go on with 0 after 9.
    let step = |pair: &[i64]| if pair == [57, 48] { 1 } else { pair[1] - pair[0] };
    let mut steps = codes.windows(2).map(step);
    let first = steps.next().unwrap_or(0);
    first.abs() <= 1 && steps.all(|step| step == first)
}

/// Too many passwords wait to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        let places = AT_ONCE_MAX + WAITING_MAX;
        Passwords { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)), places: Arc::new(Semaphore::new(places)) }
    }
}

impl Passwords {
    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// When too many wait; within, when the machine gives no randomness.
    pub async fn hash(&self, password: String) -> Result<Result<String, argon2::password_hash::Error>, Busy> {
        self.turn(move || Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())).await
    }

    /// Compares a password with a hash. Without a hash it takes as long, so that nobody learns which names exist.
    ///
    /// # Errors
    /// When too many wait.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Busy> {
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

    /// Works on a thread of its own when it is its turn. The turn ends with the work, not with whoever waits for it: a request that is given
    /// up leaves the memory in use for as long as the hash takes.
    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let work = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        Ok(work.await.expect("hashing does not panic"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap().unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert_eq!(passwords.verify("correct horse".into(), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("correct horsf".into(), Some(hash)).await, Ok(false));
        assert_eq!(passwords.verify("correct horse".into(), None).await, Ok(false));
    }

    #[test]
    fn names_and_passwords_are_held_to_rules() {
        for good in ["a", "alice", "4-ever.under_score"] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in ["", "Alice", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn refused(password: &str, why: &str) {
        let rule = check_password(password, "alice.smith").unwrap_err();
        assert!(rule.0.contains(why), "{password:?}: {rule:?}");
    }

    #[test]
    fn a_password_is_long_and_none_that_anybody_tries_first() {
        refused("1234567", "8 to 1024");
        refused(&"xy".repeat(513), "8 to 1024");
        refused("alice.smith", "username");
        refused("Alice.Smith", "username");
        for common in ["password", "PassWord1", "qwertyuiop", "iloveyou", "chatcluster", "zxczxczxc", "1q2w3e4r5t"] {
            refused(common, "anybody tries");
        }
        for run in ["aaaaaaaa", "12345678", "1234567890", "987654321", "abcdefgh", "HGFEDCBA", "ääääääää"] {
            refused(run, "anybody tries");
        }
        for good in ["correct horse", "alice.smith1", "12345679", "пароль и конь", &"xy".repeat(512)] {
            assert_eq!(check_password(good, "alice.smith"), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_list_of_common_passwords_is_sorted_and_says_nothing_that_is_refused_anyway() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert!(lines.is_sorted_by(|a, b| a < b));
        for line in lines {
            assert!(line.len() >= PASSWORD_CHARACTERS_MIN && line == line.to_lowercase() && !is_run(line), "{line}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_gives_up_waiting_leaves_no_more_at_work_than_may_be() {
        let passwords = Passwords::default();
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let work = || {
            let (at_work, most, released) = (at_work.clone(), most.clone(), released.clone());
            move || {
                most.fetch_max(at_work.fetch_add(1, SeqCst) + 1, SeqCst);
                // An error: the test is over.
                let _ = released.lock().unwrap().recv();
                at_work.fetch_sub(1, SeqCst);
            }
        };
        for _ in 0..2 * AT_ONCE_MAX {
            // Polled once, and given up.
            assert!(passwords.turn(work()).now_or_never().is_none());
        }
        // Those that came to work hold their turns although nobody waits for them.
        assert_eq!(passwords.turns.available_permits(), 0);
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(passwords.turn(work()))).collect();
        let mut waiting = futures::future::join_all(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(passwords.turn(work()).await, Err(Busy));
        drop(release);
        assert!(waiting.await.iter().all(Result::is_ok));
        assert!(most.load(SeqCst) <= AT_ONCE_MAX, "{most:?}");
    }
}
