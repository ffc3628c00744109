//! What the store promises of sessions, kept by Redis.

use std::net::IpAddr;

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation};
use uuid::Uuid;

use super::{
    RedisSessions,
    passwords::{self, Change, Shown},
    scripts::{BEGIN, CHANGED, CHANGING, END, GOOD, KNOWS, LIST, LOOK, NOTE, NOTE_SEEN, REUSED, ROTATE},
};
use crate::{
    auth::{Bits, Kept, RefreshRules, RefreshToken, Verdict, judge},
    event::User,
    store::{LOGINS_PER_USER_MAX, Login, Logins, NewLogin, Refreshed, Seen, Sightings, StoreError},
};

/// Times that a refresh is judged anew because another one came in between. Each of these has changed the token, and what is shown
/// is then one that was followed, so the second look is the last but for signs of something odd.
const JUDGED_MAX: usize = 8;

/// Names or sessions that are asked for at once.
const AT_ONCE: usize = 1_000;

impl RedisSessions {
    /// Begins a call of a script; its first argument is where ends are told.
    pub(super) fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        script.arg(&*self.channel)
    }

    pub(super) async fn run<T: FromRedisValue>(&self, call: &mut ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut used = self.link.present();
        let answer = call.invoke_async(&mut used.manager).await;
        Ok(self.link.judge(&used, answer)?)
    }

    /// Ends one of a user's sessions, or all but one.
    async fn end(&self, user: &str, which: Option<Uuid>, spared: Option<Uuid>) -> Result<Vec<Uuid>, StoreError> {
        let name = |login: Option<Uuid>| login.map(|login| login.to_string()).unwrap_or_default();
        self.ids(self.call(&END).arg(user).arg(name(which)).arg(name(spared))).await
    }

    /// Carries out one end of a change of a password. Gives the sessions that it has ended.
    async fn change(&self, script: &Script, user: &str, change: &Change) -> Result<Vec<Uuid>, StoreError> {
        let spared = change.keep.map(|login| login.to_string()).unwrap_or_default();
        self.ids(self.call(script).arg(user).arg(spared).arg(change.to_string())).await
    }

    /// Whether a session was begun with the password that the account has, or goes on for having changed it. Ends one that was not. The
    /// store is asked only while a change is under way, or when nobody knows whether it happened.
    async fn is_of_present_password(&self, login: Uuid, user: &str, shown: &Shown) -> Result<bool, StoreError> {
        if !shown.is_in_doubt(login) || shown.is_of(self.store.password_hash(user).await?.as_deref()) {
            return Ok(true);
        }
        self.end(user, Some(login), None).await?;
        Ok(false)
    }

    async fn ids(&self, call: &mut ScriptInvocation<'_>) -> Result<Vec<Uuid>, StoreError> {
        let ids: Vec<String> = self.run(call).await?;
        Ok(ids.iter().filter_map(|id| Uuid::parse_str(id).ok()).collect())
    }
}

/// What is kept of a refresh token's session: id, user, hash, former hash, salt, times, and what is known of its password. Nothing for none.
type Found = Vec<Vec<u8>>;

fn read(found: &Found) -> Option<(Uuid, &str, Kept, Shown)> {
    let text = |at: usize| std::str::from_utf8(found.get(at)?).ok();
    let bits = |at: usize| Bits::try_from(found.get(at)?.as_slice()).ok();
    let kept = Kept {
        hash: bits(2)?,
        former: bits(3).zip(bits(4)),
        rotated_ms: text(5)?.parse().ok()?,
        expires_ms: text(6)?.parse().ok()?,
    };
    let shown = Shown { mark: text(7)?.to_owned(), changing: text(8)?.to_owned() };
    Some((Uuid::parse_str(text(0)?).ok()?, text(1)?, kept, shown))
}

/// How long Redis keeps what expires then. Relative, so that a clock that differs from the nodes' changes nothing.
fn life(expires_ms: i64, now_ms: i64) -> i64 {
    expires_ms.saturating_sub(now_ms).max(1)
}

fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn bytes(bits: &Bits) -> &[u8] {
    bits
}

#[async_trait]
impl Logins for RedisSessions {
    async fn begin_login(&self, login: &NewLogin, now_ms: i64) -> Result<Option<Vec<Uuid>>, StoreError> {
        let NewLogin { id, user, address, expires_ms, token, password_hash } = login;
        let mut call = self.call(&BEGIN);
        call.arg(id.to_string()).arg(user).arg(now_ms).arg(expires_ms).arg(life(*expires_ms, now_ms));
        call.arg(address.as_deref().unwrap_or_default()).arg(token.selector().to_string());
        let shown = password_hash.as_deref().map(passwords::mark).unwrap_or_default();
        call.arg(bytes(&token.hash())).arg(shown).arg(LOGINS_PER_USER_MAX);
        let displaced = self.ids(&mut call).await?;
        // Only now, so that a change of the password ends this login, or is seen here.
        if password_hash.is_some() {
            let present = self.store.password_hash(user).await;
            if !present.as_ref().is_ok_and(|present| present == password_hash) {
                // Also when nobody knows: whoever is not told of a session does not have it.
                self.end(user, Some(*id), None).await?;
                return present.map(|_| None);
            }
        }
        Ok(Some(displaced))
    }

    async fn change_password(
        &self,
        user: &str,
        old: &str,
        new: &str,
        keep: Option<Uuid>,
    ) -> Result<Option<Vec<Uuid>>, StoreError> {
        if self.store.password_hash(user).await?.as_deref() != Some(old) {
            return Ok(None);
        }
        // Before, so that nothing is changed while Redis is away, and none of these outlives the old password; and once more after, for
        // those that were begun with it meanwhile. Should Redis be away by then, they are found out one by one.
        let change = Change::new(keep);
        let mut ended = self.change(&CHANGING, user, &change).await?;
        let Some(of_store) = self.store.change_password(user, old, new, keep).await? else { return Ok(None) };
        ended.extend(of_store);
        match self.change(&CHANGED, user, &change).await {
            Ok(begun) => ended.extend(begun),
            Err(error) => tracing::warn!(%error, "sessions that were begun meanwhile end when they are used"),
        }
        Ok(Some(ended))
    }

    async fn good_logins(&self, logins: &[Uuid], now_ms: i64) -> Result<Vec<Uuid>, StoreError> {
        if logins.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(Option<i64>, String, String, String)> = Vec::with_capacity(logins.len());
        for logins in logins.chunks(AT_ONCE) {
            let mut call = self.call(&GOOD);
            for login in logins {
                call.arg(login.to_string());
            }
            found.extend(self.run::<Vec<_>>(&mut call).await?);
        }
        let (mut good, mut others) = (Vec::new(), Vec::new());
        for (login, (expires, user, mark, changing)) in logins.iter().zip(found) {
            if expires.is_none_or(|expires| expires <= now_ms) {
                others.push(*login);
            } else if self.is_of_present_password(*login, &user, &Shown { mark, changing }).await? {
                good.push(*login);
            }
        }
        if !others.is_empty() {
            good.extend(self.store.good_bot_tokens(&others, now_ms).await?);
        }
        Ok(good)
    }

    async fn logins_of(&self, user: &str, now_ms: i64) -> Result<Vec<Login>, StoreError> {
        type Row = (String, i64, i64, i64, String, String);
        let rows: Vec<Row> = self.run(self.call(&LIST).arg(user).arg(now_ms)).await?;
        let login = |(id, created_ms, seen_ms, expires_ms, client, address): Row| {
            let (client, address) = (optional(client), optional(address));
            Some(Login { id: Uuid::parse_str(&id).ok()?, created_ms, seen_ms, expires_ms, client, address })
        };
        Ok(rows.into_iter().filter_map(login).collect())
    }

    async fn end_logins(&self, user: &str, login: Option<Uuid>) -> Result<Vec<Uuid>, StoreError> {
        self.end(user, login, None).await
    }

    async fn knows(&self, user: &str, address: IpAddr, now_ms: i64) -> Result<bool, StoreError> {
        self.run(self.call(&KNOWS).arg(user).arg(address.to_string()).arg(now_ms)).await
    }

    async fn refresh(
        &self,
        token: &RefreshToken,
        salt: Bits,
        now_ms: i64,
        rules: RefreshRules,
    ) -> Result<Refreshed, StoreError> {
        for _ in 0..JUDGED_MAX {
            let found: Found = self.run(self.call(&LOOK).arg(token.selector().to_string())).await?;
            let Some((login, user, kept, shown)) = read(&found) else { return Ok(Refreshed::Unknown) };
            if !self.is_of_present_password(login, user, &shown).await? {
                return Ok(Refreshed::Unknown);
            }
            let (written, refreshed): (bool, _) = match judge(&kept, token, salt, now_ms, rules) {
                Verdict::Expired => return Ok(Refreshed::Unknown),
                Verdict::Repeat(token) => {
                    return Ok(Refreshed::Renewed { login, user: user.to_owned(), token, again: true });
                }
                Verdict::Rotate(next, token) => {
                    let (former, salt) = next.former.unwrap_or_default();
                    let mut call = self.call(&ROTATE);
                    call.arg(login.to_string()).arg(user).arg(bytes(&kept.hash));
                    call.arg(bytes(&next.hash)).arg(bytes(&former)).arg(bytes(&salt));
                    call.arg(next.rotated_ms).arg(next.expires_ms).arg(life(next.expires_ms, now_ms));
                    let renewed = Refreshed::Renewed { login, user: user.to_owned(), token, again: false };
                    (self.run(&mut call).await?, renewed)
                }
                Verdict::Reused => {
                    let mut call = self.call(&REUSED);
                    call.arg(login.to_string()).arg(user).arg(bytes(&kept.hash));
                    (self.run(&mut call).await?, Refreshed::Reused { login })
                }
            };
            if written {
                return Ok(refreshed);
            }
        }
        Err(StoreError::NoSessions("a session changed again and again".into()))
    }

    async fn note_logins(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError> {
        let mut call = self.call(&NOTE);
        for (login, Seen { ms, client, address }) in seen {
            call.arg(login.to_string()).arg(ms);
            call.arg(client.unwrap_or_default()).arg(address.as_deref().unwrap_or_default());
        }
        let unknown = self.ids(&mut call).await?;
        let of_bots: Vec<(Uuid, Seen)> = seen.iter().filter(|(login, _)| unknown.contains(login)).cloned().collect();
        if of_bots.is_empty() { Ok(()) } else { self.store.note_bot_tokens(&of_bots).await }
    }

    async fn forget_logins(&self, now_ms: i64) -> Result<(), StoreError> {
        // Redis forgets by itself; tokens of bots, and sessions of before it was bound, are the store's.
        self.store.forget_logins(now_ms).await
    }
}

#[async_trait]
impl Sightings for RedisSessions {
    async fn note_seen(&self, users: &[(User, i64)]) -> Result<(), StoreError> {
        for users in users.chunks(AT_ONCE) {
            let mut call = self.call(&NOTE_SEEN);
            for (user, ms) in users {
                call.arg(&**user).arg(ms);
            }
            let _: bool = self.run(&mut call).await?;
        }
        Ok(())
    }

    async fn last_seen(&self, users: &[String]) -> Result<Vec<(String, i64)>, StoreError> {
        let mut last = Vec::new();
        for users in users.chunks(AT_ONCE) {
            let mut call = redis::cmd("HMGET");
            call.arg("chatcluster:seen").arg(users);
            let mut used = self.link.present();
            let answer = call.query_async(&mut used.manager).await;
            let found: Vec<Option<i64>> = self.link.judge(&used, answer)?;
            last.extend(users.iter().zip(found).filter_map(|(user, ms)| Some((user.clone(), ms?))));
        }
        Ok(last)
    }
}
