//! Claims about lists of all rooms, which come whenever something may have been missed.

use super::*;

#[test]
fn an_old_list_of_rooms_undoes_no_newer_change() {
    let (mut session, _) = here(HELLO);
    let other = Room { id: Uuid::from_u128(8), ..room(3) };
    let gained = Notice::Changed(membership(&other, true));
    assert_eq!(step(&mut session, Input::Notice(gained), NOW), ["room", "follow [3]"]);
    let mut list = |ending: Option<Kind>, now| {
        assert_eq!(
            step(&mut session, Input::Notice(Notice::All(vec![seat(room(9), Standing::default())])), now),
            ["ask"]
        );
        let seats = vec![seat(room(9), Standing::default())];
        let endings = ending.map(|kind| (other.id, (kind, 5))).into_iter().collect();
        step(&mut session, Input::Done(Outcome::Explained { seats, endings }), now)
    };
    assert_eq!(list(None, NOW), [""; 0], "it may have been read before");
    let later = Now { ms: NOW.ms + LIST_AGE_MS_MAX };
    assert_eq!(list(None, later), ["unfollow", "left"]);
}

#[test]
fn a_room_that_was_gained_and_lost_within_a_moment_is_lost_by_its_log() {
    for (kind, told) in [(Kind::Left, "left"), (Kind::Banned, "left banned")] {
        let (mut session, _) = here(HELLO);
        let other = Room { id: Uuid::from_u128(8), ..room(3) };
        step(&mut session, Input::Notice(Notice::Changed(membership(&other, true))), NOW);
        let list = || vec![seat(room(9), Standing::default())];
        let effects = session.handle(Input::Notice(Notice::All(list())), NOW);
        let [Effect::Ask(Request::Explain { lost, .. })] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(lost, &[(other.id, 4)], "what comes after the joining");
        let explained = Outcome::Explained { seats: list(), endings: HashMap::from([(other.id, (kind, 5))]) };
        assert_eq!(step(&mut session, Input::Done(explained), NOW), ["unfollow", told]);
    }
}

#[test]
fn a_room_that_a_list_does_not_have_is_left_for_the_reason_that_the_log_has() {
    let (mut session, _) = here(HELLO);
    let effects = session.handle(Input::Notice(Notice::All(Vec::new())), NOW);
    let [Effect::Ask(Request::Explain { user, seats, lost })] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(
        (&**user, seats.len(), &**lost),
        ("alice", 0, &[(ROOM, 9)][..]),
        "what ended it comes after what is known"
    );
    // What is told meanwhile holds at once, and what the log says of the time before it changes nothing more: the publication, and that
    // somebody has invited the user again. Only another list waits.
    let kicked = Notice::Changed(Membership { cause: Some(Kind::Kicked), ..membership(&room(9), false) });
    let back = Notice::Changed(membership(&room(12), true));
    assert_eq!(step(&mut session, Input::Notice(kicked), NOW), ["unfollow", "left kicked"]);
    assert_eq!(step(&mut session, Input::Notice(back), NOW), ["room", "follow [12]"]);
    assert_eq!(step(&mut session, Input::Notice(Notice::All(Vec::new())), NOW), [""; 0]);
    let send = |n: i64| frame(&format!(r#"{{"type":"send","n":{n},"room":"{ROOM}","text":"hi"}}"#));
    let explained = |endings| Input::Done(Outcome::Explained { seats: Vec::new(), endings });
    let kicked = HashMap::from([(ROOM, (Kind::Kicked, 10))]);
    assert_eq!(step(&mut session, explained(kicked), NOW), ["ask"], "about the second list");
    assert_eq!(step(&mut session, explained(HashMap::new()), NOW), [""; 0]);
    assert_eq!(step(&mut session, send(1), NOW), ["append 1"], "the second list was read before that");
}

#[test]
fn what_is_lost_waits_for_no_request_that_is_under_way() {
    let join = || frame(r#"{"type":"join","name":"x"}"#);
    let send = |n: i64| frame(&format!(r#"{{"type":"send","n":{n},"room":"{ROOM}","text":"hi"}}"#));
    let lost = Notice::Changed(Membership { cause: Some(Kind::Banned), ..membership(&room(9), false) });
    let (mut session, _) = here(HELLO);
    step(&mut session, join(), NOW);
    assert_eq!(step(&mut session, Input::Notice(lost), NOW), ["unfollow", "left banned"]);
    assert_eq!(step(&mut session, send(1), NOW), ["ask"]);

    let (mut session, _) = here(HELLO);
    step(&mut session, join(), NOW);
    let standing = Standing { role: Role::Member, muted_until: i64::MAX };
    let muted = Notice::Changed(Membership { standing, ..membership(&room(9), true) });
    assert_eq!(step(&mut session, Input::Notice(muted), NOW), ["room"]);
    assert_eq!(step(&mut session, send(1), NOW), ["append 1 as muted"]);

    // Heard of by a list alone, which has a room besides: that one waits.
    let (mut session, _) = here(HELLO);
    step(&mut session, join(), NOW);
    let other = seat(Room { id: Uuid::from_u128(8), ..room(3) }, Standing::default());
    assert_eq!(step(&mut session, Input::Notice(Notice::All(vec![other.clone()])), NOW), ["ask"]);
    let explained = Outcome::Explained { seats: vec![other], endings: HashMap::from([(ROOM, (Kind::Kicked, 10))]) };
    assert_eq!(step(&mut session, Input::Done(explained), NOW), ["unfollow", "left kicked"]);
    let refused = Outcome::Entered { id: None, result: Err(Code::UnknownRoom) };
    assert_eq!(step(&mut session, Input::Done(refused), NOW), ["error unknown_room", "room", "follow [3]"]);
}

#[test]
fn a_room_that_is_entered_and_lost_at_once_is_lost_whatever_else_is_entered() {
    let (mut session, _) = here(HELLO);
    let other = Room { id: Uuid::from_u128(8), ..room(3) };
    for _ in 0..2 {
        step(&mut session, frame(r#"{"type":"join","name":"x"}"#), NOW);
    }
    for (head, member) in [(3, true), (5, false)] {
        let told = Notice::Changed(membership(&Room { head, ..other.clone() }, member));
        assert_eq!(step(&mut session, Input::Notice(told), NOW), [""; 0], "the answer comes first");
    }
    let changed = Changed { room: other.clone(), events: Vec::new(), memberships: vec![membership(&other, true)] };
    let entered = Input::Done(Outcome::Entered { id: Some(1), result: Ok(changed) });
    assert_eq!(step(&mut session, entered, NOW), ["room", "follow [3]", "unfollow", "left"]);
}

#[test]
fn what_is_gained_waits_for_requests_only_up_to_a_number() {
    let (mut session, _) = here(HELLO);
    step(&mut session, frame(r#"{"type":"join","name":"x"}"#), NOW);
    let gained = |number| Notice::Changed(membership(&Room { id: Uuid::from_u128(1_000 + number), ..room(3) }, true));
    for number in 0..DEFERRED_MAX {
        assert_eq!(step(&mut session, Input::Notice(gained(number as u128)), NOW), [""; 0]);
    }
    let effects = step(&mut session, Input::Notice(gained(DEFERRED_MAX as u128)), NOW);
    assert_eq!(effects.len(), 2 * (DEFERRED_MAX + 1), "each is told and followed");
}

#[test]
fn whoever_is_removed_and_comes_back_is_let_in_by_a_list_that_was_read_since() {
    let list = |head| Input::Notice(Notice::All(vec![seat(room(head), Standing::default())]));
    let (mut session, _) = here(HELLO);
    let kicked = Notice::Changed(membership(&room(9), false));
    assert_eq!(step(&mut session, Input::Notice(kicked), NOW), ["unfollow", "left"]);
    assert_eq!(step(&mut session, list(9), NOW), [""; 0], "it was read before");
    let late = Notice::Changed(membership(&room(7), true));
    assert_eq!(step(&mut session, Input::Notice(late), NOW), [""; 0], "so long ago was nobody let in");
    assert_eq!(step(&mut session, list(11), NOW), ["room", "follow [11]"]);

    // Lost by a list, whose log says where.
    let (mut session, _) = here(HELLO);
    assert_eq!(step(&mut session, Input::Notice(Notice::All(Vec::new())), NOW), ["ask"]);
    let explained = Outcome::Explained { seats: Vec::new(), endings: HashMap::from([(ROOM, (Kind::Kicked, 20))]) };
    assert_eq!(step(&mut session, Input::Done(explained), NOW), ["unfollow", "left kicked"]);
    assert_eq!(step(&mut session, list(19), NOW), [""; 0]);
    assert_eq!(step(&mut session, list(21), NOW), ["room", "follow [21]"]);

    // Left, on this connection.
    let (mut session, _) = here(HELLO);
    let left = Changed { room: room(9), events: Vec::new(), memberships: vec![membership(&room(9), false)] };
    step(&mut session, Input::Done(Outcome::Left { id: None, room: ROOM, result: Ok(left) }), NOW);
    assert_eq!(step(&mut session, list(9), NOW), [""; 0]);
    assert_eq!(step(&mut session, list(11), NOW), ["room", "follow [11]"]);
}

#[test]
fn a_loss_that_is_heard_of_before_an_older_list_holds() {
    let (mut session, _) = here(HELLO);
    let other = Room { id: Uuid::from_u128(8), ..room(3) };
    let lost = Notice::Changed(membership(&other, false));
    assert_eq!(step(&mut session, Input::Notice(lost), NOW), [""; 0]);
    let seats = |head| {
        let others = [room(9), Room { head, ..other.clone() }];
        Input::Notice(Notice::All(others.map(|room| seat(room, Standing::default())).into()))
    };
    assert_eq!(step(&mut session, seats(3), NOW), [""; 0], "it was read before");
    assert_eq!(step(&mut session, seats(5), NOW), ["room", "follow [5]"]);
}

#[test]
fn a_room_that_a_list_brings_is_followed_from_where_the_membership_began() {
    let (mut session, _) = here(HELLO);
    let other = Seat { read: 3, ..seat(Room { id: Uuid::from_u128(8), ..room(5) }, Standing::default()) };
    let list = |other| Input::Notice(Notice::All(vec![seat(room(9), Standing::default()), other]));
    assert_eq!(step(&mut session, list(other.clone()), NOW), ["room", "follow [3]"]);
    assert_eq!(step(&mut session, list(other), NOW), [""; 0], "a list that says the same");
    let late = Notice::Changed(membership(&Room { id: Uuid::from_u128(8), ..room(3) }, true));
    assert_eq!(step(&mut session, Input::Notice(late), NOW), [""; 0], "the change itself, when it comes late");
    let dropped = Seat { read: 3, first: 5, ..seat(Room { id: Uuid::from_u128(6), ..room(9) }, Standing::default()) };
    assert_eq!(step(&mut here(HELLO).0, list(dropped), NOW), ["room", "follow [4]"], "what is not kept is not told");
}
