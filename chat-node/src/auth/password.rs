//! Passwords of built-in accounts: Argon2id (RFC 9106). Each hash takes 19 MiB and a core for a while, so few are made at once, by
//! threads that keep that memory for the next one: asked for anew each time, glibc's allocator finds no use for the old (aligned blocks), and a
//! node that sixty people sign in to would have 400 MB.

use std::{sync::Arc, thread};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        Error,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Threads that compare passwords.
const VERIFYING: usize = 2;

/// Threads that hash new ones. Whoever likes may register, so that must not keep anybody from signing in.
const HASHING: usize = 1;

/// Hashes that wait for their turn. Beyond, a request is better told to come back.
const WAITING_MAX: usize = 1_000;

const USERNAME_BYTES_MAX: usize = 64;
const PASSWORD_CHARACTERS_MIN: usize = 8;
const PASSWORD_CHARACTERS_MAX: usize = 1024;

/// A rule that a new account breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRule(pub &'static str);

/// What stands for whoever asks in `/rooms/{room}/members/me`: a moderator who removes somebody of that name would leave the room.
const WHOEVER_ASKS: &str = "me";

/// Checks a new username.
///
/// # Errors
/// The rule that it breaks.
pub fn check_username(name: &str) -> Result<(), PasswordRule> {
    if name == WHOEVER_ASKS {
        return Err(PasswordRule("the username `me` stands for whoever asks: choose another"));
    }
    is_username(name)
        .then_some(())
        .ok_or(PasswordRule("a username has 1 to 64 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit"))
}

/// Whether an account may have this name, be it from before a rule.
pub fn is_username(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    (1..=USERNAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
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

/// The memory of a hash, kept for the next one.
type Memory = Vec<Block>;

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Passwords {
    verifying: Threads,
    hashing: Threads,
}

impl Default for Passwords {
    /// Starts the threads. They end with the last clone.
    fn default() -> Self {
        Passwords { verifying: Threads::start("verify", VERIFYING), hashing: Threads::start("hash", HASHING) }
    }
}

#[cfg(test)]
impl Passwords {
    /// Ones that nobody looks at: they wait at the other end, and while that is gone too many wait.
    pub(crate) fn stuck() -> (Passwords, mpsc::Receiver<impl Sized>) {
        let (jobs, waiting) = mpsc::channel(1);
        let threads = Threads(jobs);
        (Passwords { verifying: threads.clone(), hashing: threads }, waiting)
    }
}

impl Passwords {
    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// When too many wait. Within, never for a password that [`check_password`] passes; the signature is the library's.
    pub async fn hash(&self, password: String) -> Result<Result<String, Error>, Busy> {
        self.hashing
            .turn(move |memory| {
                let argon2 = Argon2::default();
                let salt = Salt::new(&rand::random::<[u8; 16]>())?;
                let hash = PasswordHash {
                    algorithm: Algorithm::default().ident(),
                    version: Some(Version::default().into()),
                    params: ParamsString::try_from(argon2.params())?,
                    salt: Some(salt),
                    hash: Some(output(&argon2, &password, &salt, memory)?),
                };
                Ok(hash.to_string())
            })
            .await
    }

    /// Compares a password with a hash. Without a hash it takes as long, so that nobody learns which names exist.
    ///
    /// # Errors
    /// When too many wait.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Busy> {
        /// A hash of nothing that anyone knows.
        const NOBODY: &str =
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$ZHHYMRyIPPDHcAYDkZ3Cjcd9cRCHIRBwQR94pLvbPEU";
        self.verifying
            .turn(move |memory| {
                let known = hash.is_some();
                let matches = verify(&password, hash.as_deref().unwrap_or(NOBODY), memory);
                known && matches.unwrap_or(false)
            })
            .await
    }
}

/// Some threads, and what waits for them.
#[derive(Clone)]
struct Threads(mpsc::Sender<Job>);

impl Threads {
    fn start(name: &str, count: usize) -> Threads {
        let (jobs, waiting) = mpsc::channel::<Job>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..count {
            let waiting = waiting.clone();
            let next = move || waiting.lock().blocking_recv();
            let work = move || {
                let mut memory = Memory::new();
                std::iter::from_fn(next).for_each(|job| job(&mut memory));
            };
            thread::Builder::new().name(format!("{name}-{number}")).spawn(work).expect("a thread can be started");
        }
        Threads(jobs)
    }

    async fn turn<T: Send + 'static>(&self, work: impl FnOnce(&mut Memory) -> T + Send + 'static) -> Result<T, Busy> {
        let (done, result) = oneshot::channel();
        let job = move |memory: &mut Memory| {
            // Nobody waits for it when the request is gone.
            if !done.is_closed() {
                let _ = done.send(work(memory));
            }
        };
        self.0.try_send(Box::new(job)).map_err(|_| Busy)?;
        Ok(result.await.expect("hashing does not panic"))
    }
}

/// Whether the password is the one that was hashed.
fn verify(password: &str, hash: &str, memory: &mut Memory) -> Result<bool, Error> {
    let hash = PasswordHash::new(hash)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
    // Outputs are compared in constant time.
    Ok(output(&argon2, password, salt, memory)? == *expected)
}

fn output(argon2: &Argon2<'_>, password: &str, salt: &Salt, memory: &mut Memory) -> Result<Output, Error> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let output = &mut output[..argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..blocks])?;
    Ok(Output::new(output)?)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier};

    use argon2::PasswordHasher;
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
        let made_elsewhere = PasswordHasher::hash_password(&Argon2::default(), b"correct horse").unwrap().to_string();
        assert_eq!(passwords.verify("correct horse".into(), Some(made_elsewhere)).await, Ok(true));
    }

    #[tokio::test]
    async fn however_many_come_the_same_few_threads_hash() {
        let threads = Threads::start("test", VERIFYING);
        let turns = (0..WAITING_MAX).map(|_| threads.turn(|_| thread::current().id()));
        let used: HashSet<_> = futures::future::join_all(turns).await.into_iter().map(Result::unwrap).collect();
        assert!((1..=VERIFYING).contains(&used.len()), "{used:?}");
    }

    #[tokio::test]
    async fn however_many_register_nobody_is_kept_from_signing_in() {
        let passwords = Passwords::default();
        let (started, gate) = (Arc::new(Barrier::new(HASHING + 1)), Arc::new(Barrier::new(HASHING + 1)));
        let (on_it, hold) = (started.clone(), gate.clone());
        let hashing = passwords.hashing.clone();
        let wait = move |_: &mut Memory| {
            on_it.wait();
            hold.wait();
        };
        let held = tokio::spawn(async move { hashing.turn(wait).await });
        tokio::task::spawn_blocking(move || started.wait()).await.unwrap();
        assert_eq!(passwords.verify("correct horse".into(), None).await, Ok(false));
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        held.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_told_and_what_nobody_waits_for_is_not_done() {
        let threads = Threads::start("test", VERIFYING);
        let (started, gate) = (Arc::new(Barrier::new(VERIFYING + 1)), Arc::new(Barrier::new(VERIFYING + 1)));
        let hold = |_| {
            let (threads, started, gate) = (threads.clone(), started.clone(), gate.clone());
            let hold = move |_: &mut Memory| {
                started.wait();
                gate.wait();
            };
            tokio::spawn(async move { threads.turn(hold).await })
        };
        let holds: Vec<_> = (0..VERIFYING).map(hold).collect();
        tokio::task::spawn_blocking(move || started.wait()).await.unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        let note = |by: &'static str| {
            let told = told.clone();
            move |_: &mut Memory| told.send(by).unwrap()
        };
        assert!(threads.turn(note("who gave up")).now_or_never().is_none());
        let rest = (1..WAITING_MAX).map(|_| Box::pin(threads.turn(note("who waited"))));
        let mut rest = futures::future::join_all(rest);
        assert!((&mut rest).now_or_never().is_none());
        assert_eq!(threads.turn(note("who came too late")).await, Err(Busy));
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        assert!(futures::future::join_all(holds).await.into_iter().all(|held| held.unwrap().is_ok()));
        assert!(rest.await.iter().all(Result::is_ok));
        drop(told);
        while let Some(by) = heard.recv().await {
            assert_eq!(by, "who waited");
        }
    }

    #[test]
    fn names_and_passwords_are_held_to_rules() {
        for good in ["a", "alice", "4-ever.under_score"] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in ["", "Alice", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
        assert!(check_username("me").is_err() && is_username("me") && check_username("me2").is_ok());
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
}
