//! What is claimed of the roll.

use super::*;

fn user(name: &str) -> User {
    name.into()
}

fn presence(state: State, web: bool, mobile: bool) -> Option<Summary> {
    Some(Summary { state, web, mobile })
}

const NOW: i64 = 1_000_000;

/// Lets one roll hear what another tells, questions and answers included.
fn exchange(from: &mut Roll, to: &mut Roll, now: i64) {
    let told = from.tell();
    if let Some(Told::Ask { peer }) = to.hear(&"a".to_owned(), told, "b", now) {
        let everyone = from.hear(&"b".to_owned(), Told::Ask { peer }, "a", now).unwrap();
        assert_eq!(to.hear(&"a".to_owned(), everyone, "b", now), None);
    }
}

#[test]
fn devices_add_up() {
    let mut roll = Roll::default();
    let alice = user("alice");
    roll.enter(&alice, ConnectionId(1), ClientType::Web);
    roll.enter(&alice, ConnectionId(2), ClientType::Mobile);
    roll.set(&alice, ConnectionId(1), State::Away);
    assert_eq!(roll.summary("alice"), presence(State::Online, true, true));
    roll.set(&alice, ConnectionId(2), State::Away);
    assert_eq!(roll.summary("alice"), presence(State::Away, true, true));
    roll.exit(&alice, ConnectionId(1), NOW);
    assert_eq!(roll.summary("alice"), presence(State::Away, false, true));
    assert_eq!(roll.take_changed(9), [alice]);
    assert_eq!(roll.take_changed(9).len(), 0);
}

#[test]
fn whoever_comes_back_in_time_was_never_gone() {
    let mut roll = Roll::default();
    let alice = user("alice");
    roll.enter(&alice, ConnectionId(1), ClientType::Web);
    roll.tell();
    roll.exit(&alice, ConnectionId(1), NOW);
    roll.pass(NOW + LINGER_MS - 1);
    assert_eq!(roll.summary("alice"), presence(State::Online, true, false));
    roll.enter(&alice, ConnectionId(2), ClientType::Web);
    roll.pass(NOW + 2 * LINGER_MS);
    assert_eq!((roll.tell(), roll.take_gone().len()), (Told::Beat { number: 1 }, 0));
    roll.exit(&alice, ConnectionId(2), NOW + 2 * LINGER_MS);
    roll.pass(NOW + 3 * LINGER_MS);
    assert_eq!(roll.summary("alice"), None);
    let gone = roll.take_gone();
    assert_eq!(gone, [(user("alice"), NOW + 2 * LINGER_MS)]);
    assert_eq!(roll.tell(), Told::Changes { number: 2, users: vec![(alice.clone(), None)] });

    // It could not be noted, and she was here once more meanwhile.
    roll.enter(&alice, ConnectionId(3), ClientType::Web);
    roll.exit(&alice, ConnectionId(3), NOW + 4 * LINGER_MS);
    roll.pass(NOW + 5 * LINGER_MS);
    roll.note_gone(gone);
    assert_eq!(roll.take_gone(), [(alice, NOW + 4 * LINGER_MS)]);
}

#[test]
fn a_copy_follows_and_asks_when_something_is_missing() {
    let (mut one, mut other) = (Roll::default(), Roll::default());
    one.enter(&user("alice"), ConnectionId(1), ClientType::Web);
    exchange(&mut one, &mut other, NOW);
    assert_eq!(other.summary("alice"), presence(State::Online, true, false));
    one.enter(&user("bob"), ConnectionId(2), ClientType::Web);
    one.tell();
    one.enter(&user("carol"), ConnectionId(3), ClientType::Web);
    exchange(&mut one, &mut other, NOW);
    assert!(other.summary("bob").is_some() && other.summary("carol").is_some(), "what was missed is asked for");
    one.exit(&user("alice"), ConnectionId(1), NOW);
    one.pass(NOW + LINGER_MS);
    one.tell();
    exchange(&mut one, &mut other, NOW);
    assert_eq!(other.summary("alice"), None, "a beat tells that something was missed");
    assert_eq!(other.hear(&"a".to_owned(), Told::Ask { peer: "c".into() }, "b", NOW), None, "another was asked");
}

#[test]
fn a_silent_nodes_users_are_gone_unless_they_are_elsewhere() {
    let (mut one, mut other) = (Roll::default(), Roll::default());
    for (number, name) in [(1, "alice"), (2, "bob")] {
        one.enter(&user(name), ConnectionId(number), ClientType::Web);
    }
    exchange(&mut one, &mut other, NOW);
    other.enter(&user("bob"), ConnectionId(9), ClientType::Mobile);
    other.take_changed(9);
    other.look(&[], "b", NOW + SILENCE_MS - 1);
    assert!(other.summary("alice").is_some());
    other.look(&[], "b", NOW + SILENCE_MS);
    assert_eq!(other.summary("alice"), None);
    assert_eq!(other.summary("bob"), presence(State::Online, false, true));
    assert_eq!(other.take_changed(9).len(), 2);
    assert_eq!(other.take_gone().len(), 2);
}

/// What the store has of node `a`, as it is told a moment later.
fn kept(number: i64, age_ms: i64) -> Vec<Run> {
    vec![Run { run: "a".into(), number, age_ms }, Run { run: "b".into(), number: 99, age_ms: 0 }]
}

#[test]
fn a_node_whose_bus_is_silent_is_followed_in_the_store_from_where_the_bus_was() {
    let (mut one, mut other) = (Roll::default(), Roll::default());
    one.enter(&user("alice"), ConnectionId(1), ClientType::Web);
    exchange(&mut one, &mut other, NOW);
    one.enter(&user("bob"), ConnectionId(2), ClientType::Web);
    let second = one.tell();
    assert_eq!(other.look(&kept(2, 0), "b", NOW + QUIET_MS - 1), [], "the bus carries");
    let later = NOW + QUIET_MS;
    assert_eq!(other.look(&kept(1, 0), "b", later), [], "nothing is new");
    assert_eq!(other.look(&kept(2, 0), "b", later), [("a".to_owned(), 1)]);
    other.read("a", second.clone());
    assert_eq!(other.summary("bob"), presence(State::Online, true, false));
    assert_eq!(other.look(&kept(2, 0), "b", later), [], "it is in step, and costs nothing while nothing changes");

    // Long after, the bus carries again: it goes on where the store was.
    let later = NOW + 10 * SILENCE_MS;
    assert_eq!(other.look(&kept(2, SILENCE_MS - 1), "b", later), []);
    assert!(other.summary("alice").is_some());
    assert_eq!(other.hear(&"a".to_owned(), one.tell(), "b", later), None, "nobody is asked for everyone");
    one.exit(&user("bob"), ConnectionId(2), later);
    one.pass(later + LINGER_MS);
    assert_eq!(other.hear(&"a".to_owned(), one.tell(), "b", later + LINGER_MS), None);
    other.read("a", second);
    assert_eq!(other.summary("bob"), None, "what the store tells late is old");
}

#[test]
fn a_node_is_gone_once_neither_the_bus_nor_the_store_tells_of_it() {
    let (mut one, mut other) = (Roll::default(), Roll::default());
    one.enter(&user("alice"), ConnectionId(1), ClientType::Web);
    exchange(&mut one, &mut other, NOW);
    let later = NOW + 10 * SILENCE_MS;
    other.look(&kept(1, 2_000), "b", later);
    assert!(other.summary("alice").is_some());
    // The store is away, or has nothing of it any more.
    assert_eq!(other.look(&[], "b", later + SILENCE_MS - 2_001), []);
    assert!(other.summary("alice").is_some());
    other.look(&[], "b", later + SILENCE_MS - 2_000);
    assert_eq!(other.summary("alice"), None);
    assert_eq!(other.take_gone(), [(user("alice"), later - 2_000)], "last seen when the node was");
    assert_eq!(other.look(&kept(1, SILENCE_MS), "b", later + SILENCE_MS), [], "what a dead node left says nothing");
}

#[test]
fn a_node_that_was_never_heard_of_is_read_from_the_beginning() {
    let (mut one, mut other) = (Roll::default(), Roll::default());
    one.enter(&user("alice"), ConnectionId(1), ClientType::Web);
    one.tell();
    let whole = one.everyone();
    one.enter(&user("bob"), ConnectionId(2), ClientType::Mobile);
    let change = one.tell();
    assert_eq!(other.look(&kept(2, 0), "b", NOW), [("a".to_owned(), -1)]);
    other.read("a", change.clone());
    assert_eq!(other.summary("bob"), None, "it follows on nothing");
    other.read("a", whole);
    other.read("a", change);
    assert!(other.summary("alice").is_some() && other.summary("bob").is_some());
    assert_eq!(other.hear(&"a".to_owned(), one.tell(), "b", NOW), None, "the bus goes on from there");
}

#[test]
fn a_thousand_arrivals_are_one_message() {
    let mut roll = Roll::default();
    for number in 0..1_500 {
        roll.enter(&user(&format!("user{number}")), ConnectionId(number), ClientType::Web);
    }
    for (number, expected) in [(1, 1_000), (2, 500)] {
        let Told::Changes { number: told, users } = roll.tell() else { panic!() };
        assert_eq!((told, users.len()), (number, expected));
    }
}
