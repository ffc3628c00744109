//! Every step that has to be whole: Redis runs a script without anything in between.
//!
//! | key | holds |
//! |---|---|
//! | `chatcluster:login:ID` | a session's fields; gone with the session |
//! | `chatcluster:refresh:SELECTOR` | the id of the session that a refresh token belongs to |
//! | `chatcluster:user:NAME` | the ids of a user's sessions, by when they were last seen |
//! | `chatcluster:changing:NAME` | a change of the user's password that is under way, or of which nobody knows whether it happened; and the session that it keeps |
//! | `chatcluster:seen` | when users were last seen |
//! | `chatcluster:rolls` | the nodes' runs: the number of the latest message of each, and when it gave a sign of life, by the clock of Redis |
//! | `chatcluster:roll:RUN` | what a run tells of who is present, by the numbers of its messages; gone a minute after its last sign of life |
//!
//! A script makes keys of what it finds, so all of them have to be on one server: Redis Cluster is not for this.

use std::sync::LazyLock;

use redis::Script;

/// What several scripts need. `ARGV[1]` is always the channel on which ends are told.
const COMMON: &str = r"
local function login_key(id) return 'chatcluster:login:' .. id end
local function user_key(user) return 'chatcluster:user:' .. user end
local function changing_key(user) return 'chatcluster:changing:' .. user end

-- Lets a key live so long at least, in milliseconds.
local function keep(key, ms)
    if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

-- The ids of a user's sessions, those that were seen last first. What Redis has forgotten is taken off the list.
local function logins(user)
    local there = {}
    for _, id in ipairs(redis.call('ZREVRANGE', user_key(user), 0, -1)) do
        if redis.call('EXISTS', login_key(id)) == 1 then
            there[#there + 1] = id
        else
            redis.call('ZREM', user_key(user), id)
        end
    end
    return there
end

local function forget(user, id)
    redis.call('DEL', 'chatcluster:refresh:' .. redis.call('HGET', login_key(id), 'selector'), login_key(id))
    redis.call('ZREM', user_key(user), id)
end

-- Tells all nodes, in this same step.
local function tell(ended)
    if #ended > 0 then redis.call('PUBLISH', ARGV[1], table.concat(ended, ' ')) end
end

-- Ends one of a user's sessions, or all when `which` is empty, but for one that is spared.
local function end_sessions(user, which, spared)
    local ended = {}
    for _, id in ipairs(logins(user)) do
        if (which == '' or which == id) and spared ~= id then
            forget(user, id)
            ended[#ended + 1] = id
        end
    end
    tell(ended)
    return ended
end

-- What is known of a session's password: the mark of the one that was shown for it, and the change that is under way, or nothing.
local function password_of(id)
    local user, shown = unpack(redis.call('HMGET', login_key(id), 'user', 'shown'))
    return user or '', shown or '', redis.call('GET', changing_key(user or '')) or ''
end
";

fn script(text: &str) -> Script {
    Script::new(&format!("{COMMON}{text}"))
}

/// Arguments: id, user, now, when it expires, how long it lives, address, selector, hash, the mark of the password that was shown, how
/// many a user may have.
pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local _, id, user, now, expires, life, address, selector, hash, shown, most = unpack(ARGV)
redis.call('HSET', login_key(id), 'user', user, 'created', now, 'seen', now, 'expires', expires, 'address', address,
    'client', '', 'shown', shown, 'selector', selector, 'hash', hash, 'former', '', 'salt', '', 'rotated', 0)
redis.call('PEXPIRE', login_key(id), life)
redis.call('SET', 'chatcluster:refresh:' .. selector, id, 'PX', life)
redis.call('ZADD', user_key(user), now, id)
keep(user_key(user), tonumber(life))
local displaced = {}
for place, other in ipairs(logins(user)) do
    if place > tonumber(most) then
        forget(user, other)
        displaced[#displaced + 1] = other
    end
end
tell(displaced)
return displaced
",
    )
});

/// Arguments: user, now. Gives id and fields of each that is good, one after the other.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local listed = {}
for _, id in ipairs(logins(ARGV[2])) do
    local fields = redis.call('HMGET', login_key(id), 'created', 'seen', 'expires', 'client', 'address')
    if tonumber(fields[3]) > tonumber(ARGV[3]) then
        listed[#listed + 1] = { id, unpack(fields) }
    end
end
return listed
",
    )
});

/// Arguments: user, an id or nothing for all, and an id that is spared.
pub(super) static END: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
return end_sessions(ARGV[2], ARGV[3], ARGV[4])
",
    )
});

/// Arguments: user, an id that is spared, and the change that begins. Ends all others, and has those that begin from now on looked at.
pub(super) static CHANGING: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
redis.call('SET', changing_key(ARGV[2]), ARGV[4])
return end_sessions(ARGV[2], '', ARGV[3])
",
    )
});

/// Arguments: likewise, of a change that has happened. Ends all others that have begun meanwhile; with them gone nothing is to be looked at.
pub(super) static CHANGED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
if redis.call('GET', changing_key(ARGV[2])) == ARGV[4] then redis.call('DEL', changing_key(ARGV[2])) end
return end_sessions(ARGV[2], '', ARGV[3])
",
    )
});

/// Arguments: ids. Gives for each when it expires, or nothing, and what is known of its password.
pub(super) static GOOD: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local found = {}
for at = 2, #ARGV do
    found[#found + 1] = { redis.call('HGET', login_key(ARGV[at]), 'expires'), password_of(ARGV[at]) }
end
return found
",
    )
});

/// Arguments: user, address, now.
pub(super) static KNOWS: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
for _, id in ipairs(logins(ARGV[2])) do
    local fields = redis.call('HMGET', login_key(id), 'address', 'expires')
    if fields[1] == ARGV[3] and tonumber(fields[2]) > tonumber(ARGV[4]) then return 1 end
end
return 0
",
    )
});

/// Arguments: selector. Gives what is kept of its session, or nothing.
pub(super) static LOOK: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local id = redis.call('GET', 'chatcluster:refresh:' .. ARGV[2])
if not id or redis.call('EXISTS', login_key(id)) == 0 then return {} end
local kept = redis.call('HMGET', login_key(id), 'user', 'hash', 'former', 'salt', 'rotated', 'expires')
local _, shown, changing = password_of(id)
return { id, kept[1], kept[2], kept[3], kept[4], kept[5], kept[6], shown, changing }
",
    )
});

/// Arguments: id, user, and the hash that it had; then that and all that follows it: hash, former, salt, when, when it expires, how
/// long it lives. Gives 0 when it is another one by now.
pub(super) static ROTATE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local _, id, user, had, hash, former, salt, now, expires, life = unpack(ARGV)
if redis.call('HGET', login_key(id), 'hash') ~= had then return 0 end
redis.call('HSET', login_key(id), 'hash', hash, 'former', former, 'salt', salt, 'rotated', now, 'seen', now, 'expires', expires)
redis.call('PEXPIRE', login_key(id), life)
redis.call('PEXPIRE', 'chatcluster:refresh:' .. redis.call('HGET', login_key(id), 'selector'), life)
redis.call('ZADD', user_key(user), now, id)
keep(user_key(user), tonumber(life))
return 1
",
    )
});

/// Arguments: id, user, and the hash that it had. Ends it; gives 0 when it is another one by now.
pub(super) static REUSED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
if redis.call('HGET', login_key(ARGV[2]), 'hash') ~= ARGV[4] then return 0 end
forget(ARGV[3], ARGV[2])
tell({ ARGV[2] })
return 1
",
    )
});

/// Arguments: id, when, client and address of each. Gives the ids that are no sessions.
pub(super) static NOTE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local unknown = {}
for at = 2, #ARGV, 4 do
    local id, now, client, address = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local kept = redis.call('HMGET', login_key(id), 'user', 'seen')
    if not kept[1] then
        unknown[#unknown + 1] = id
    else
        if client ~= '' then redis.call('HSET', login_key(id), 'client', client) end
        if address ~= '' then redis.call('HSET', login_key(id), 'address', address) end
        if tonumber(now) > tonumber(kept[2]) then
            redis.call('HSET', login_key(id), 'seen', now)
            redis.call('ZADD', user_key(kept[1]), now, id)
        end
    end
end
return unknown
",
    )
});

/// Arguments: name and time of each.
pub(super) static NOTE_SEEN: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
for at = 2, #ARGV, 2 do
    local before = redis.call('HGET', 'chatcluster:seen', ARGV[at])
    if not before or tonumber(ARGV[at + 1]) > tonumber(before) then
        redis.call('HSET', 'chatcluster:seen', ARGV[at], ARGV[at + 1])
    end
end
return 1
",
    )
});

/// What the scripts of rolls need.
const ROLLS: &str = r"
local function roll_key(run) return 'chatcluster:roll:' .. run end

-- Messages of the same text are two all the same.
local function member(number, text) return number .. ' ' .. text end

local function now_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The number of a run's latest message, and when it gave a sign of life; nothing when there is nothing of it, or not all.
local function beat_of(run)
    local kept = redis.call('HGET', 'chatcluster:rolls', run)
    if not kept or redis.call('EXISTS', roll_key(run)) == 0 then return nil end
    local number, beat = string.match(kept, '^(%S+) (%S+)$')
    return tonumber(number), tonumber(beat)
end

-- A sign of life, as of a message's number at least.
local function beat(run, number, kept_ms)
    number = math.max(number, beat_of(run) or number)
    redis.call('HSET', 'chatcluster:rolls', run, string.format('%.0f %.0f', number, now_ms()))
    redis.call('PEXPIRE', roll_key(run), kept_ms)
end
";

fn script_of_rolls(text: &str) -> Script {
    Script::new(&format!("{ROLLS}{text}"))
}

/// Arguments: the channel, a run, how long it is kept, and the number and the text of what takes the place of all before it.
pub(super) static BEGIN_ROLL: LazyLock<Script> = LazyLock::new(|| {
    script_of_rolls(
        r"
local _, run, kept_ms, number, text = unpack(ARGV)
redis.call('ZREMRANGEBYSCORE', roll_key(run), '-inf', number)
redis.call('ZADD', roll_key(run), number, member(number, text))
beat(run, tonumber(number), kept_ms)
return 1
",
    )
});

/// Arguments: the channel, a run, how long it is kept, how many runs are told of at most, then number and text of each message. Gives name,
/// number and age of each run, the own one only if there was something of it to be added to.
pub(super) static ADD_TO_ROLL: LazyLock<Script> = LazyLock::new(|| {
    script_of_rolls(
        r"
local _, run, kept_ms, most = unpack(ARGV, 1, 4)
if beat_of(run) then
    local latest = -1
    for at = 5, #ARGV, 2 do
        latest = tonumber(ARGV[at])
        if redis.call('ZCOUNT', roll_key(run), latest, latest) == 0 then
            redis.call('ZADD', roll_key(run), latest, member(ARGV[at], ARGV[at + 1]))
        end
    end
    beat(run, latest, kept_ms)
end
local runs, now = {}, now_ms()
for _, name in ipairs(redis.call('HKEYS', 'chatcluster:rolls')) do
    local number, seen = beat_of(name)
    if not number or now - seen > tonumber(kept_ms) then
        redis.call('HDEL', 'chatcluster:rolls', name)
    elseif #runs < tonumber(most) then
        runs[#runs + 1] = { name, number, math.max(now - seen, 0) }
    end
end
return runs
",
    )
});

/// Arguments: the channel, how many messages are given at most, then runs and the numbers after which to begin. Gives run, number and text
/// of each.
pub(super) static READ_ROLLS: LazyLock<Script> = LazyLock::new(|| {
    script_of_rolls(
        r"
local found, most = {}, tonumber(ARGV[2])
for at = 3, #ARGV, 2 do
    local run, left = ARGV[at], most - #found
    local entries = redis.call('ZRANGEBYSCORE', roll_key(run), '(' .. ARGV[at + 1], '+inf', 'WITHSCORES', 'LIMIT', 0, left)
    for entry = 1, #entries, 2 do
        local text = string.match(entries[entry], '^%d+ (.*)$')
        found[#found + 1] = { run, tonumber(entries[entry + 1]), text }
    end
end
return found
",
    )
});

/// Arguments: the channel, and a run of which everything is forgotten.
pub(super) static END_ROLL: LazyLock<Script> = LazyLock::new(|| {
    script_of_rolls(
        r"
redis.call('DEL', roll_key(ARGV[2]))
redis.call('HDEL', 'chatcluster:rolls', ARGV[2])
return 1
",
    )
});
