//! Scripts for [`Core`]: what goes out and what is told, without a socket.

use uuid::Uuid;

use super::{
    Failure, Observation,
    core::{Ask, Core, Effect},
};
use crate::frame::{ClientType, Committed, Frame, Limits, Refusal, Request, RoomRef, Welcome};

const LOBBY: Uuid = Uuid::from_u128(1);

/// A moment, and how long an outbox is kept.
const NOW: u64 = 1_767_225_600_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// A client with an outbox of these texts; a ticket is the text itself.
fn client(texts: &[&'static str]) -> Core<&'static str> {
    let mut core = Core::new(Uuid::nil());
    for &text in texts {
        core.send(LOBBY, text.to_owned(), text);
    }
    core
}

fn welcome(core: &mut Core<&'static str>, outbox_last: u64, outstanding: usize) -> Vec<Effect<&'static str>> {
    core.hello("token".into(), ClientType::Web);
    let limits = Limits { text_bytes: 100, outstanding, history_events: 100, outbox_days: 1 };
    let (user, node) = ("alice".into(), "demo-0".into());
    core.take(Frame::Welcome(Welcome { user, node, outbox_last: Some(outbox_last), limits, rooms: Vec::new() }))
}

fn commit(core: &mut Core<&'static str>, n: u64) -> Vec<Effect<&'static str>> {
    let event = Uuid::from_u128(n.into());
    core.take(Frame::Committed(Committed { n, room: LOBBY, epoch: 1, seq: n, event }))
}

fn refuse(
    core: &mut Core<&'static str>,
    id: u64,
    code: &str,
    retryable: bool,
    expected: Option<u64>,
) -> Vec<Effect<&'static str>> {
    let (code, message) = (code.to_owned(), String::new());
    core.take(Frame::Error(Refusal { id: Some(id), n: None, code, message, retryable, expected, retry_after_ms: None }))
}

/// All that goes out now, as (request, number, text).
fn out(core: &mut Core<&'static str>) -> Vec<(u64, u64, String)> {
    std::iter::from_fn(|| core.next(NOW))
        .map(|request| match request {
            Request::Send { id, n, text, .. } => (id, n, text),
            other => panic!("{other:?} went out"),
        })
        .collect()
}

fn done(effects: Vec<Effect<&'static str>>) -> Vec<(&'static str, bool)> {
    let done = |effect| match effect {
        Effect::Done(ticket, outcome) => Some((ticket, outcome.is_ok())),
        _ => None,
    };
    effects.into_iter().filter_map(done).collect()
}

#[test]
fn nothing_goes_out_before_the_welcome_and_no_more_than_the_server_bears_after_it() {
    let mut core = client(&["a", "b", "c"]);
    assert_eq!(core.next(NOW), None);
    welcome(&mut core, 0, 2);
    assert_eq!(out(&mut core), [(1, 1, "a".to_owned()), (2, 2, "b".to_owned())]);
    commit(&mut core, 1);
    assert_eq!(out(&mut core), [(3, 3, "c".to_owned())]);
}

#[test]
fn what_is_accepted_holds_nothing_up_and_a_token_waits_for_nothing() {
    let mut core = client(&["a", "b", "c", "d"]);
    core.renew("of before".into());
    assert_eq!(core.next(NOW), None);
    welcome(&mut core, 0, 2);
    assert_eq!(out(&mut core).len(), 2);
    core.renew("another".into());
    assert_eq!(core.next(NOW), Some(Request::Token { id: 3, token: "another".into() }));
    core.ask(Ask::Ping, "ping");
    assert_eq!(core.next(NOW), None);
    core.take(Frame::Accepted { n: 1 });
    assert_eq!(core.next(NOW), Some(Request::Ping { id: 4 }));
    core.take(Frame::Accepted { n: 2 });
    assert_eq!(out(&mut core), [(5, 3, "c".to_owned())]);
    assert_eq!(done(commit(&mut core, 1)), [("a", true)]);
    assert_eq!(core.next(NOW), None, "it was not waited for");
    core.disconnected(NOW);
    welcome(&mut core, 1, 8);
    assert_eq!(std::iter::from_fn(|| core.next(NOW)).count(), 4, "the ping, and all that is not committed");
}

#[test]
fn after_a_reconnect_what_was_not_committed_goes_out_again_under_its_number() {
    let mut core = client(&["a", "b", "c"]);
    welcome(&mut core, 0, 8);
    out(&mut core);
    assert_eq!(done(commit(&mut core, 1)), [("a", true)]);
    core.disconnected(NOW);
    assert_eq!(core.next(NOW), None);
    welcome(&mut core, 3, 8);
    assert_eq!(out(&mut core), [(4, 2, "b".to_owned()), (5, 3, "c".to_owned())]);
    assert_eq!(done(commit(&mut core, 2)), [("b", true)]);
}

#[test]
fn a_retryable_error_takes_back_what_follows_and_waits() {
    let mut core = client(&["a", "b", "c"]);
    welcome(&mut core, 0, 8);
    out(&mut core);
    let effects = refuse(&mut core, 2, "unavailable", true, None);
    assert!(matches!(effects[1], Effect::Pause { attempt: 0, at_least_ms: 0 }), "{effects:?}");
    // The gap that the third then makes is an answer to a request that is out of date.
    assert!(refuse(&mut core, 3, "outbox_gap", true, Some(2)).is_empty());
    assert!(out(&mut core).is_empty());
    core.go_on();
    assert_eq!(out(&mut core), [(4, 2, "b".to_owned()), (5, 3, "c".to_owned())]);
    let effects = refuse(&mut core, 4, "overloaded", true, None);
    assert!(matches!(effects[1], Effect::Pause { attempt: 1, at_least_ms: 0 }), "{effects:?}");
    commit(&mut core, 1);
    core.go_on();
    out(&mut core);
    let effects = refuse(&mut core, 6, "overloaded", true, None);
    assert!(
        matches!(effects[1], Effect::Pause { attempt: 0, at_least_ms: 0 }),
        "a commit starts the count anew: {effects:?}"
    );
}

fn hello(core: &mut Core<&'static str>) -> Option<Uuid> {
    match core.hello("token".into(), ClientType::Web) {
        Request::Hello(hello) => hello.outbox,
        other => panic!("{other:?}"),
    }
}

/// What a client tells of a server that was set back, before it closes the connection.
fn set_back(effects: Vec<Effect<&'static str>>) -> Option<(u64, u64)> {
    match effects[..] {
        [Effect::Tell(Observation::SetBack { settled, known }), Effect::Violation(_)] => Some((settled, known)),
        _ => None,
    }
}

#[test]
fn a_gap_is_gone_back_to_when_it_is_ours_and_the_outbox_begins_anew_when_it_was_settled() {
    let mut core = client(&["a", "b", "c"]);
    welcome(&mut core, 0, 8);
    out(&mut core);
    refuse(&mut core, 3, "outbox_gap", true, Some(2));
    core.go_on();
    assert_eq!(out(&mut core), [(4, 2, "b".to_owned()), (5, 3, "c".to_owned())]);
    commit(&mut core, 1);
    let first = hello(&mut core);
    assert_eq!(set_back(refuse(&mut core, 4, "outbox_gap", true, Some(1))), Some((1, 0)));
    core.send(LOBBY, "d".into(), "d");
    assert_eq!(core.next(NOW), None, "it is over with this connection");
    assert!(commit(&mut core, 2).is_empty(), "another outbox has that number now");
    core.disconnected(NOW);
    assert_ne!(hello(&mut core), first);
    assert_eq!(set_back(welcome(&mut core, 0, 8)), None);
    assert_eq!(out(&mut core), [(6, 1, "b".to_owned()), (7, 2, "c".to_owned()), (8, 3, "d".to_owned())]);
    assert_eq!(done(commit(&mut core, 1)), [("b", true)]);
}

#[test]
fn a_refusal_for_good_uses_the_number_up() {
    let mut core = client(&["a", "b"]);
    welcome(&mut core, 0, 8);
    out(&mut core);
    let effects = refuse(&mut core, 1, "not_a_member", false, None);
    assert!(matches!(&effects[0], Effect::Tell(Observation::Refused { n: 1, .. })), "{effects:?}");
    assert_eq!(done(effects), [("a", false)]);
    core.disconnected(NOW);
    welcome(&mut core, 1, 8);
    assert_eq!(out(&mut core), [(3, 2, "b".to_owned())]);
}

#[test]
fn a_server_that_knows_more_than_was_sent_is_told_of_and_after_one_that_forgot_what_it_took_the_outbox_begins_anew() {
    let violation = |effects: Vec<Effect<_>>| matches!(effects[..], [Effect::Violation(_)]);
    let mut core = client(&["a", "b"]);
    assert!(violation(welcome(&mut core, 3, 8)));
    welcome(&mut core, 0, 8);
    out(&mut core);
    commit(&mut core, 1);
    core.disconnected(NOW);
    let first = hello(&mut core);
    assert_eq!(set_back(welcome(&mut core, 0, 8)), Some((1, 0)));
    assert_eq!(core.next(NOW), None);
    core.disconnected(NOW);
    assert_ne!(hello(&mut core), first);
    assert!(matches!(welcome(&mut core, 0, 8)[..], [Effect::Tell(Observation::Connected { .. })]));
    assert_eq!(out(&mut core), [(3, 1, "b".to_owned())]);
    core.disconnected(NOW);
    assert_eq!(
        done(core.expire(NOW + DAY)),
        [("b", false)],
        "it was tried before, and nobody knows whether it was taken"
    );
}

#[test]
fn a_request_is_asked_again_only_when_that_does_no_harm() {
    let mut core = client(&[]);
    core.ask(Ask::Join(RoomRef::Room(LOBBY)), "join");
    core.ask(Ask::CreateRoom("den".into()), "create");
    core.ask(Ask::Ping, "ping");
    welcome(&mut core, 0, 8);
    assert_eq!(std::iter::from_fn(|| core.next(NOW)).count(), 3);
    let effects = core.disconnected(NOW);
    assert!(matches!(effects[..], [Effect::Done("create", Err(Failure::Interrupted))]), "{effects:?}");
    welcome(&mut core, 0, 8);
    let again: Vec<_> = std::iter::from_fn(|| core.next(NOW)).collect();
    assert_eq!(again, [Request::Join { id: 4, room: RoomRef::Room(LOBBY) }, Request::Ping { id: 5 }]);
    assert_eq!(done(core.take(Frame::Pong { id: Some(5) })), [("ping", true)]);
    assert!(core.take(Frame::Pong { id: Some(3) }).is_empty());
}

#[test]
fn a_client_that_stops_leaves_nobody_waiting() {
    let mut core = client(&["a", "b"]);
    core.ask(Ask::Ping, "ping");
    assert_eq!(core.unfinished(), 3);
    welcome(&mut core, 0, 2);
    while core.next(NOW).is_some() {}
    core.ask(Ask::Ping, "later");
    let mut left = done(core.stopped());
    left.sort_unstable();
    assert_eq!(left, [("a", false), ("b", false), ("later", false), ("ping", false)]);
    assert_eq!(core.unfinished(), 0);
}

#[test]
fn what_was_first_tried_a_day_ago_is_not_repeated_and_what_never_was_goes_into_a_new_outbox() {
    let mut core = client(&["a", "b", "c", "d"]);
    assert!(core.expire(NOW).is_empty(), "nothing was tried");
    let first = hello(&mut core);
    welcome(&mut core, 0, 2);
    assert_eq!(out(&mut core).len(), 2);
    commit(&mut core, 1);
    core.disconnected(NOW);
    assert!(core.expire(NOW + DAY - 1).is_empty());
    assert_eq!(hello(&mut core), first);
    welcome(&mut core, 1, 1);
    assert_eq!(core.next(NOW + DAY - 1).map(|request| matches!(request, Request::Send { n: 2, .. })), Some(true));
    core.disconnected(NOW + DAY - 1);

    let effects = core.expire(NOW + DAY);
    assert!(matches!(&effects[0], Effect::Tell(Observation::Expired { n: 2 })), "{effects:?}");
    assert!(matches!(&effects[1..], [Effect::Done("b", Err(Failure::Expired))]), "{effects:?}");
    assert_ne!(hello(&mut core), first, "the server would take the others for a gap");
    // The new outbox counts from 1, and its owner goes on.
    assert!(matches!(welcome(&mut core, 0, 8)[..], [Effect::Tell(Observation::Connected { .. })]));
    assert_eq!(out(&mut core), [(4, 1, "c".to_owned()), (5, 2, "d".to_owned())]);
    let effects = refuse(&mut core, 5, "outbox_gap", true, Some(1));
    assert!(matches!(effects[1], Effect::Pause { .. }), "{effects:?}");
    core.go_on();
    assert_eq!(out(&mut core), [(6, 1, "c".to_owned()), (7, 2, "d".to_owned())]);
    let effects = commit(&mut core, 1);
    assert!(matches!(&effects[0], Effect::Tell(Observation::Committed(Committed { n: 3, .. }))), "{effects:?}");
    assert_eq!(done(effects), [("c", true)]);
    core.send(LOBBY, "e".into(), "e");
    assert_eq!(out(&mut core), [(8, 3, "e".to_owned())]);
}

#[test]
fn an_outbox_that_the_server_has_forgotten_because_nobody_used_it_is_no_violation() {
    let mut core = client(&["a"]);
    welcome(&mut core, 0, 8);
    out(&mut core);
    commit(&mut core, 1);
    core.disconnected(NOW);
    core.send(LOBBY, "b".into(), "b");
    assert!(core.expire(NOW + DAY).is_empty(), "nothing is lost");
    assert!(matches!(welcome(&mut core, 0, 8)[..], [Effect::Tell(Observation::Connected { .. })]));
    assert_eq!(out(&mut core), [(2, 1, "b".to_owned())]);
    core.disconnected(NOW + DAY);
    let effects = welcome(&mut core, 5, 8);
    assert!(matches!(effects[..], [Effect::Violation(_)]), "{effects:?}");
}
