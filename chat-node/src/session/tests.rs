//! Claims about sessions, told as scripts of inputs and effects.

mod lists;

use super::{
    here::{DEFERRED_MAX, LIST_AGE_MS_MAX},
    *,
};
use crate::{
    auth::Rights,
    event::{EventBody, Kind, Membership, Role, RoomKind, Standing},
    store::{Changed, Content, Page},
};

const NOW: Now = Now { ms: 1_767_225_600_000 };
const ROOM: Uuid = Uuid::from_u128(7);

fn session(token: Option<&str>) -> Session {
    let told = LimitsFrame { text_bytes: 10, outstanding: 4, history_events: 50, mentions: 2, outbox_days: 1 };
    Session::new("node", SessionLimits { told, replay_events_max: 5 }, token.map(str::to_owned))
}

/// `good` lets alice in for an hour, `old` has expired.
fn verify(token: &str, now: u64) -> Result<Claims, TokenError> {
    match token {
        "good" => Ok(Claims { user: "alice".into(), expires: now + 3600, rights: Rights::default(), login: None }),
        "bob's" => Ok(Claims { user: "bob".into(), expires: now + 3600, rights: Rights::default(), login: None }),
        "other" => {
            let login = Some(Uuid::from_u128(5));
            Ok(Claims { user: "alice".into(), expires: now + 7200, rights: Rights::reading(), login })
        }
        "own" => {
            let user = format!("{OWN_USERS}sender").into();
            Ok(Claims { user, expires: now + 3600, rights: Rights::default(), login: None })
        }
        "read" => Ok(Claims { user: "alice".into(), expires: now + 3600, rights: Rights::reading(), login: None }),
        "old" => Err(TokenError::Expired),
        "away" => Err(TokenError::Unavailable),
        _ => Err(TokenError::Bad),
    }
}

/// Hands in an input; tells the effects in short words.
fn step(session: &mut Session, input: Input, now: Now) -> Vec<String> {
    let effects = session.handle(input, now);
    if let [Effect::Verify(token)] = effects.as_slice() {
        return step(session, Input::Verified(verify(token, now.seconds())), now);
    }
    effects.iter().map(told).collect()
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::Reply(frame) => {
            let frame: serde_json::Value = serde_json::from_str(&frame.encode()).unwrap();
            let type_ = frame["type"].as_str().unwrap();
            let detail = frame["code"].as_str().or(frame["cause"].as_str());
            detail.map_or_else(|| type_.to_owned(), |detail| format!("{type_} {detail}"))
        }
        Effect::Verify(token) => format!("verify {token}"),
        Effect::Arrive { user, .. } => format!("arrive {user}"),
        Effect::Announce => "announce".into(),
        Effect::Belong(login) => format!("belong {:?}", login.map(|login| login.as_u128())),
        Effect::Follow(positions) => format!("follow {:?}", positions.iter().map(|(.., seq)| *seq).collect::<Vec<_>>()),
        Effect::Unfollow(_) => "unfollow".into(),
        Effect::Append { append, .. } => match &append.content {
            Content::Message(_) => format!("append {}", append.n),
            Content::Refused(code) => format!("append {} as {}", append.n, code.as_str()),
        },
        Effect::Await { n, .. } => format!("await {n}"),
        Effect::Ask(_) => "ask".into(),
        Effect::Typing(_) => "typing".into(),
        Effect::Status(state) => format!("{state:?}"),
        Effect::Watch { .. } => "watch".into(),
        Effect::Show { .. } => "show".into(),
        Effect::Unwatch(_) => "unwatch".into(),
        Effect::Close(reason) => format!("close {}", reason.status()),
        Effect::Resumed(outcome) => format!("{outcome:?}"),
    }
}

fn frame(text: &str) -> Input {
    Input::Frame(crate::protocol::decode(text))
}

fn room(head: Seq) -> Room {
    Room { id: ROOM, kind: RoomKind::Public, name: Some("lobby".into()), pair: None, topic: None, epoch: 1, head }
}

fn seat(room: Room, standing: Standing) -> Seat {
    Seat { read: room.head, room, standing, first: 1 }
}

fn membership(room: &Room, member: bool) -> Membership {
    Membership { user: "alice".into(), room: room.clone(), member, standing: Standing::default(), cause: None }
}

/// A session of alice, who is in one room at position 9.
fn here(hello: &str) -> (Session, Vec<String>) {
    arriving(hello, Vec::new())
}

/// The same, when the events at the positions in these rooms are other ones.
fn arriving(hello: &str, contradicted: Vec<Uuid>) -> (Session, Vec<String>) {
    let mut session = session(None);
    let arrives = step(&mut session, frame(hello), NOW);
    assert!(arrives.len() == 1 && arrives[0].starts_with("arrive "), "{arrives:?}");
    let arrival = Arrival { rooms: vec![seat(room(9), Standing::default())], outbox_last: 0, contradicted };
    let effects = step(&mut session, Input::Arrived(Ok(arrival)), NOW);
    (session, effects)
}

const HELLO: &str = r#"{"type":"hello","token":"good","outbox":"00000000-0000-0000-0000-000000000001"}"#;

#[test]
fn only_hello_opens_and_only_once() {
    let mut first = session(None);
    assert_eq!(step(&mut first, frame(r#"{"type":"ping"}"#), NOW), ["error not_identified", "close 4401"]);
    assert_eq!(step(&mut first, frame(HELLO), NOW), [""; 0], "a closing connection says nothing more");
    let (mut second, _) = here(HELLO);
    assert_eq!(step(&mut second, frame(HELLO), NOW), ["error already_identified"]);
    assert_eq!(step(&mut second, frame(r#"{"type":"ping"}"#), NOW), ["pong"]);
}

#[test]
fn a_token_comes_with_the_upgrade_or_with_hello() {
    assert_eq!(step(&mut session(Some("good")), frame(r#"{"type":"hello"}"#), NOW), ["arrive alice"]);
    assert_eq!(step(&mut session(None), frame(r#"{"type":"hello"}"#), NOW), ["error bad_token", "close 4401"]);
    let old = frame(r#"{"type":"hello","token":"old"}"#);
    assert_eq!(step(&mut session(None), old, NOW), ["error token_expired", "close 4402"]);
    let away = frame(r#"{"type":"hello","token":"away"}"#);
    assert_eq!(step(&mut session(None), away, NOW), ["error unavailable", "close 1013"]);
}

#[test]
fn nothing_is_said_while_a_token_is_checked() {
    let mut session = session(None);
    assert!(matches!(session.handle(frame(HELLO), NOW).as_slice(), [Effect::Verify(token)] if token == "good"));
    assert!(session.is_identified(), "the time to say hello is over");
    assert_eq!(step(&mut session, frame(r#"{"type":"ping"}"#), NOW), ["error not_identified"]);
    assert_eq!(step(&mut session, frame(HELLO), NOW), ["error already_identified"]);
    assert_eq!(step(&mut session, Input::Verified(verify("good", 0)), NOW), ["arrive alice"]);
}

#[test]
fn a_narrowed_token_does_no_more_than_it_says() {
    let (mut session, _) = here(&HELLO.replace("good", "read"));
    let room = ROOM;
    let send = frame(&format!(r#"{{"type":"send","n":1,"room":"{room}","text":"hi"}}"#));
    assert_eq!(step(&mut session, send, NOW), ["append 1 as forbidden"]);
    assert_eq!(step(&mut session, frame(r#"{"type":"create_room","name":"x"}"#), NOW), ["error forbidden"]);
    assert_eq!(step(&mut session, frame(&format!(r#"{{"type":"leave","room":"{room}"}}"#)), NOW), ["error forbidden"]);
    assert_eq!(step(&mut session, frame(&format!(r#"{{"type":"history","room":"{room}"}}"#)), NOW), ["ask"]);
}

#[test]
fn a_token_that_expires_ends_the_connection() {
    let (mut session, _) = here(HELLO);
    assert_eq!(step(&mut session, Input::Tick, Now { ms: NOW.ms + 3_599_000 }), [""; 0]);
    assert_eq!(step(&mut session, Input::Tick, Now { ms: NOW.ms + 3_600_000 }), ["error token_expired", "close 4402"]);
}

#[test]
fn what_breaks_no_protocol_keeps_the_connection() {
    let (mut session, _) = here(HELLO);
    assert_eq!(step(&mut session, frame("{"), NOW), ["error bad_frame"]);
    assert_eq!(step(&mut session, Input::NotText, NOW), ["error bad_frame"]);
    assert_eq!(step(&mut session, frame(r#"{"type":"create_room","name":" "}"#), NOW), ["error bad_name"]);
    let elsewhere = format!(r#"{{"type":"history","room":"{}"}}"#, Uuid::from_u128(404));
    assert_eq!(step(&mut session, frame(&elsewhere), NOW), ["error not_a_member"]);
}

/// A room that the session has not heard of.
const ELSEWHERE: Uuid = Uuid::from_u128(404);

/// What the store tells of the user's place in the room of a send.
fn seated(n: i64, room: Uuid, seat: Result<Option<Seat>, Code>) -> Input {
    let message = Message { text: "hi".into(), reply: None, mentions: Vec::new() };
    Input::Done(Outcome::Seated { send: Send { id: None, n, room, message }, seat })
}

#[test]
fn a_send_to_a_room_that_was_entered_elsewhere_is_for_the_store_to_decide() {
    let (mut session, _) = here(HELLO);
    let send = |n: i64| frame(&format!(r#"{{"type":"send","n":{n},"room":"{ELSEWHERE}","text":"hi"}}"#));
    let there =
        |muted_until| Some(seat(Room { id: ELSEWHERE, ..room(3) }, Standing { role: Role::Member, muted_until }));
    assert_eq!(step(&mut session, send(1), NOW), ["ask"]);
    assert_eq!(step(&mut session, seated(1, ELSEWHERE, Err(Code::Unavailable)), NOW), ["error unavailable"]);
    assert_eq!(step(&mut session, send(1), NOW), ["ask"], "it has not used its number");
    assert_eq!(step(&mut session, seated(1, ELSEWHERE, Ok(there(0))), NOW), ["append 1"]);
    assert_eq!(step(&mut session, seated(2, ELSEWHERE, Ok(there(i64::MAX))), NOW), ["append 2 as muted"]);
}

#[test]
fn who_was_sent_away_does_not_read_what_was_asked_for_before() {
    let (mut session, _) = here(HELLO);
    let history = frame(&format!(r#"{{"type":"history","room":"{ROOM}"}}"#));
    assert_eq!(step(&mut session, history, NOW), ["ask"]);
    let kicked = Notice::Changed(Membership { cause: Some(Kind::Kicked), ..membership(&room(12), false) });
    assert_eq!(step(&mut session, Input::Notice(kicked), NOW), ["unfollow", "left kicked"]);
    let page = Page { epoch: 1, events: Vec::new(), more: false };
    let read = Outcome::Read { id: None, room: ROOM, result: Ok((page, Vec::new())) };
    assert_eq!(step(&mut session, Input::Done(read), NOW), ["error not_a_member"]);
    let listed = Outcome::Listed { id: None, room: ROOM, result: Ok((Vec::new(), false)) };
    assert_eq!(step(&mut session, Input::Done(listed), NOW), ["error not_a_member"]);
}

#[test]
fn a_send_that_breaks_a_rule_still_uses_its_number() {
    let (mut session, _) = here(HELLO);
    let send = |n: i64, room: Uuid, text: &str| {
        frame(&format!(r#"{{"type":"send","n":{n},"room":"{room}","text":"{text}"}}"#))
    };
    assert_eq!(step(&mut session, send(1, ROOM, "hi"), NOW), ["append 1"]);
    assert_eq!(step(&mut session, send(2, ROOM, "  "), NOW), ["append 2 as empty_text"]);
    assert_eq!(step(&mut session, send(3, ROOM, "12345678901"), NOW), ["append 3 as text_too_long"]);
    assert_eq!(step(&mut session, send(4, ROOM, "a\\u0000"), NOW), ["append 4 as bad_text"]);
    assert_eq!(step(&mut session, send(5, ELSEWHERE, "hi"), NOW), ["ask"]);
    assert_eq!(step(&mut session, seated(5, ELSEWHERE, Ok(None)), NOW), ["append 5 as not_a_member"]);
    let (mut without, _) = here(r#"{"type":"hello","token":"good"}"#);
    assert_eq!(step(&mut without, send(1, ROOM, "hi"), NOW), ["error outbox_missing"]);
}

/// A message of alice's has its place.
fn committed() -> Answer {
    let event = EventBody {
        room: ROOM,
        epoch: 1,
        seq: 10,
        id: Uuid::nil(),
        kind: Kind::Message,
        sender: "alice".into(),
        time: 0,
        text: None,
        details: None,
    };
    Answer::Committed { event, new: true }
}

/// A session of alice's with so many sends under way.
fn sending(count: i64) -> Session {
    let (mut session, _) = here(HELLO);
    for n in 1..=count {
        let send = frame(&format!(r#"{{"type":"send","n":{n},"room":"{ROOM}","text":"hi"}}"#));
        assert_eq!(step(&mut session, send, NOW), [format!("append {n}")]);
    }
    session
}

#[test]
fn fates_of_sends_are_told_in_the_order_of_the_outbox_whatever_is_answered_first() {
    let mut session = sending(4);
    let mut done = |n, answer| step(&mut session, Input::Done(Outcome::Sent { id: None, n, answer }), NOW);
    assert_eq!(done(3, Ok(Answer::Refused(Code::Muted))), [""; 0]);
    assert_eq!(done(2, Ok(committed())), [""; 0]);
    assert_eq!(done(1, Ok(committed())), ["committed", "committed", "error muted"]);
    assert_eq!(done(4, Ok(committed())), ["committed"]);
}

#[test]
fn a_send_that_may_come_again_holds_nothing_up() {
    let mut session = sending(3);
    let mut done = |outcome| step(&mut session, Input::Done(outcome), NOW);
    assert_eq!(done(Outcome::Sent { id: None, n: 3, answer: Ok(committed()) }), [""; 0]);
    assert_eq!(done(Outcome::TooFast { id: None, n: 1, retry_after_ms: 9 }), ["error too_fast"]);
    let unavailable = Outcome::Sent { id: None, n: 2, answer: Err(Code::Unavailable) };
    assert_eq!(done(unavailable), ["error unavailable", "committed"]);
}

#[test]
fn answers_to_sends_are_told_as_documented() {
    let (mut session, _) = here(HELLO);
    let mut done = |answer| step(&mut session, Input::Done(Outcome::Sent { id: None, n: 1, answer }), NOW);
    assert_eq!(done(Ok(committed())), ["committed"]);
    assert_eq!(done(Ok(Answer::Gap { expected: 3 })), ["error outbox_gap"]);
    assert_eq!(done(Ok(Answer::Forgotten)), ["error outbox_forgotten"]);
    assert_eq!(done(Err(Code::Overloaded)), ["error overloaded"]);
}

#[test]
fn a_resume_begins_where_the_client_was() {
    let at = |position: &str| {
        let hello = format!(r#"{{"type":"hello","token":"good","resume":[{{"room":"{ROOM}",{position}}}]}}"#);
        here(&hello).1
    };
    assert_eq!(here(HELLO).1, ["Live", "welcome", "announce", "follow [9]"]);
    assert_eq!(at(r#""epoch":1,"seq":9"#), ["Replayed", "welcome", "announce", "follow [9]"]);
    assert_eq!(at(r#""epoch":1,"seq":4"#), ["Replayed", "welcome", "announce", "follow [4]"]);
    assert_eq!(at(r#""epoch":1,"seq":3"#), ["TooFar", "welcome", "announce", "follow [9]"]);
    assert_eq!(
        at(r#""epoch":1,"seq":10"#),
        ["Reset", "welcome", "announce", "follow [9]"],
        "a position that never was"
    );
    assert_eq!(at(r#""epoch":2,"seq":4"#), ["Reset", "welcome", "announce", "follow [9]"], "another history");
    let hello = format!(r#"{{"type":"hello","token":"good","resume":[{{"room":"{ROOM}","epoch":1,"seq":4}}]}}"#);
    assert_eq!(
        arriving(&hello, vec![ROOM]).1,
        ["Reset", "welcome", "announce", "follow [9]"],
        "another event at that position"
    );
    let first_kept = |first| {
        let position = Position { room: ROOM, epoch: 1, seq: 4, event: None };
        super::resumption(&room(9), first, Some(&position), false, 100)
    };
    assert_eq!(first_kept(5), (ResumeOutcome::Replayed, 4));
    assert_eq!(first_kept(6), (ResumeOutcome::TooFar, 9), "what follows is not kept any more");
}

#[test]
fn a_room_is_told_once_whether_asked_for_or_not() {
    let (mut session, _) = here(HELLO);
    let other = Room { id: Uuid::from_u128(8), ..room(3) };
    let gained = || Notice::Changed(membership(&other, true));
    assert_eq!(step(&mut session, frame(r#"{"type":"join","name":"x"}"#), NOW), ["ask"]);
    assert_eq!(step(&mut session, Input::Notice(gained()), NOW), [""; 0], "the answer comes first");
    let changed = Changed { room: other.clone(), events: Vec::new(), memberships: vec![membership(&other, true)] };
    let entered = Input::Done(Outcome::Entered { id: Some(1), result: Ok(changed) });
    assert_eq!(step(&mut session, entered, NOW), ["room", "follow [3]"]);
    assert_eq!(step(&mut session, Input::Notice(gained()), NOW), [""; 0]);
    let lost = Notice::Changed(membership(&Room { head: 5, ..other.clone() }, false));
    assert_eq!(step(&mut session, Input::Notice(lost), NOW), ["unfollow", "left"]);
}

#[test]
fn a_mute_holds_from_the_moment_that_it_is_heard_of_until_its_end() {
    let (mut session, _) = here(HELLO);
    let send = |n: i64| frame(&format!(r#"{{"type":"send","n":{n},"room":"{ROOM}","text":"hi"}}"#));
    let stands = |head, muted_until| {
        let standing = Standing { role: Role::Member, muted_until };
        Input::Notice(Notice::Changed(Membership { standing, ..membership(&room(head), true) }))
    };
    assert_eq!(step(&mut session, stands(10, NOW.ms + 1_000), NOW), ["room"]);
    assert_eq!(step(&mut session, send(1), NOW), ["append 1 as muted"]);
    assert_eq!(step(&mut session, stands(9, 0), NOW), [""; 0], "an older change that comes late");
    assert_eq!(step(&mut session, send(2), NOW), ["append 2 as muted"]);
    assert_eq!(step(&mut session, send(3), Now { ms: NOW.ms + 1_000 }), ["append 3"]);
    let list = Input::Notice(Notice::All(vec![seat(room(12), Standing::default())]));
    assert_eq!(step(&mut session, list, NOW), ["room"], "a newer list lifts it");
    assert_eq!(step(&mut session, send(4), NOW), ["append 4"]);
    let old = Input::Notice(Notice::Changed(membership(&room(9), false)));
    assert_eq!(step(&mut session, old, NOW), [""; 0], "a removal from before");
    let kicked = Notice::Changed(Membership { cause: Some(Kind::Kicked), ..membership(&room(12), false) });
    assert_eq!(step(&mut session, Input::Notice(kicked), NOW), ["unfollow", "left kicked"]);
    assert_eq!(step(&mut session, send(5), NOW), ["ask"]);
}

#[test]
fn commands_are_checked_before_the_store_is_asked() {
    let (mut session, _) = here(HELLO);
    let target = r#""target":{"seq":3,"event":"00000000-0000-0000-0000-000000000003"}"#;
    let command = |rest: &str| frame(&format!(r#"{{"room":"{ROOM}",{target},{rest}}}"#));
    assert_eq!(step(&mut session, command(r#""type":"edit","text":"new""#), NOW), ["ask"]);
    assert_eq!(step(&mut session, command(r#""type":"edit","text":" ""#), NOW), ["error empty_text"]);
    assert_eq!(step(&mut session, command(r#""type":"react","reaction":"a b""#), NOW), ["error bad_reaction"]);
    let elsewhere = Uuid::from_u128(404);
    let delete = frame(&format!(r#"{{"type":"delete","room":"{elsewhere}",{target}}}"#));
    assert_eq!(step(&mut session, delete, NOW), ["error not_a_member"]);
    let many = frame(&format!(r#"{{"type":"send","n":1,"room":"{ROOM}","text":"hi","mentions":["a","b","c"]}}"#));
    assert_eq!(step(&mut session, many, NOW), ["append 1 as too_many_mentions"]);
    let twice = frame(&format!(r#"{{"type":"send","n":2,"room":"{ROOM}","text":"hi","mentions":["a","b","a"]}}"#));
    assert_eq!(step(&mut session, twice, NOW), ["append 2"]);
    let nul = frame(&format!(r#"{{"type":"send","n":3,"room":"{ROOM}","text":"hi","mentions":["\u0000"]}}"#));
    assert_eq!(step(&mut session, nul, NOW), ["append 3 as unknown_user"]);
}

#[test]
fn nobody_but_they_themselves_talks_to_the_users_that_nodes_test_themselves_as() {
    let direct = || frame(&format!(r#"{{"type":"direct","user":"{OWN_USERS}receiver"}}"#));
    let invite = frame(&format!(r#"{{"type":"invite","room":"{ROOM}","user":"{OWN_USERS}receiver"}}"#));
    let (mut alice, _) = here(HELLO);
    assert_eq!(step(&mut alice, direct(), NOW), ["error unknown_user"]);
    assert_eq!(step(&mut alice, invite, NOW), ["error unknown_user"]);
    let (mut own, _) = here(&HELLO.replace("good", "own"));
    assert_eq!(step(&mut own, direct(), NOW), ["ask"]);
}

#[test]
fn signals_are_bounded_by_membership_mutes_and_a_number_of_rooms() {
    let (mut session, _) = here(HELLO);
    let signal = |type_: &str, room: Uuid| frame(&format!(r#"{{"type":"{type_}","room":"{room}"}}"#));
    assert_eq!(step(&mut session, signal("typing", ROOM), NOW), ["typing"]);
    assert_eq!(step(&mut session, signal("watch", ROOM), NOW), ["watch"]);
    assert_eq!(step(&mut session, signal("watch", Uuid::from_u128(404)), NOW), ["error not_a_member"]);
    assert_eq!(step(&mut session, signal("unwatch", ROOM), NOW), ["unwatch", "done"]);
    assert_eq!(step(&mut session, signal("unwatch", ROOM), NOW), ["done"]);
    assert_eq!(step(&mut session, frame(r#"{"type":"status","state":"away"}"#), NOW), ["Away", "done"]);
    for number in 0..10 {
        let other = Room { id: Uuid::from_u128(100 + number), ..room(3) };
        step(&mut session, Input::Notice(Notice::Changed(membership(&other, true))), NOW);
        assert_eq!(step(&mut session, signal("watch", other.id), NOW), ["watch"]);
    }
    assert_eq!(step(&mut session, signal("watch", ROOM), NOW), ["error too_many_watched"]);
    let lost = Notice::Changed(membership(&Room { id: Uuid::from_u128(100), ..room(9) }, false));
    assert_eq!(step(&mut session, Input::Notice(lost), NOW), ["unfollow", "left", "unwatch"]);
    assert_eq!(step(&mut session, signal("watch", ROOM), NOW), ["watch"]);
    let failed = Outcome::Watched { id: None, room: ROOM, result: Err(Code::Unavailable) };
    assert_eq!(step(&mut session, Input::Done(failed), NOW), ["unwatch", "error unavailable"]);
    let watched = || Input::Done(Outcome::Watched { id: None, room: ROOM, result: Ok(()) });
    step(&mut session, signal("watch", ROOM), NOW);
    assert_eq!(step(&mut session, watched(), NOW), ["show"]);
    step(&mut session, signal("watch", ROOM), NOW);
    assert_eq!(step(&mut session, signal("unwatch", ROOM), NOW), ["unwatch", "done"]);
    assert_eq!(step(&mut session, watched(), NOW), ["unwatch", "done"], "it may have begun only now");
    step(&mut session, signal("watch", ROOM), NOW);
    step(&mut session, Input::Notice(Notice::Changed(membership(&room(9), false))), NOW);
    assert_eq!(step(&mut session, watched(), NOW), ["unwatch", "error not_a_member"], "who was sent away sees nobody");
    step(&mut session, Input::Notice(Notice::Changed(membership(&room(9), true))), NOW);
    let standing = Standing { role: Role::Member, muted_until: NOW.ms + 1 };
    let muted = Notice::Changed(Membership { standing, ..membership(&room(10), true) });
    step(&mut session, Input::Notice(muted), NOW);
    assert_eq!(step(&mut session, signal("typing", ROOM), NOW), ["error muted"]);
}

#[test]
fn a_token_that_is_handed_in_takes_the_place_of_the_former_one() {
    let at = |seconds: i64| Now { ms: NOW.ms + seconds * 1000 };
    let (mut session, _) = here(HELLO);
    let token = |token: &str| frame(&format!(r#"{{"type":"token","id":1,"token":"{token}"}}"#));
    for (bad, code) in
        [("nonsense", "bad_token"), ("bob's", "bad_token"), ("old", "token_expired"), ("away", "unavailable")]
    {
        assert_eq!(step(&mut session, token(bad), NOW), [format!("error {code}")], "{bad}");
    }
    let send = r#"{"type":"send","n":1,"room":"00000000-0000-0000-0000-000000000007","text":"x"}"#;
    assert_eq!(step(&mut session, frame(send), NOW), ["append 1"], "what is refused changes nothing");
    assert_eq!(step(&mut session, token("other"), at(3_599)), ["belong Some(5)", "token"]);
    assert_eq!(step(&mut session, Input::Tick, at(3_600)), [""; 0], "the former one would have expired");
    let refused = frame(&send.replace("\"n\":1", "\"n\":2"));
    assert_eq!(step(&mut session, refused, at(3_600)), ["append 2 as forbidden"], "its scopes hold at once");
    assert_eq!(step(&mut session, Input::Tick, at(3_599 + 7_200)), ["error token_expired", "close 4402"]);
}

#[test]
fn one_token_is_checked_at_a_time() {
    let (mut session, _) = here(HELLO);
    let hand_in = || frame(r#"{"type":"token","id":1,"token":"other"}"#);
    assert!(matches!(session.handle(hand_in(), NOW).as_slice(), [Effect::Verify(_)]));
    assert_eq!(step(&mut session, hand_in(), NOW), ["error overloaded"]);
    assert_eq!(step(&mut session, Input::Verified(verify("other", NOW.seconds())), NOW), ["belong Some(5)", "token"]);
    assert_eq!(step(&mut session, Input::Verified(verify("other", NOW.seconds())), NOW), [""; 0], "nobody asked");
}
