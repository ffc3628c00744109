//! A feed's order, gaps and breaks.

use uuid::Uuid;

use super::{
    super::outbound::tests::{Script, outbound as connection},
    *,
};

fn event(seq: Seq) -> Event {
    Event {
        room: Uuid::nil(),
        epoch: 1,
        seq,
        id: Uuid::from_u128(seq as u128),
        rewrites: false,
        frame: seq.to_string().into(),
        trail: None,
    }
}

/// A connection whose socket takes everything.
fn outbound() -> (Arc<Outbound>, Script) {
    let (outbound, socket) = connection(1_000, 1_000_000);
    socket.allow(usize::MAX);
    (outbound, socket)
}

/// What a connection was given since it was last asked.
fn seen((outbound, socket): &(Arc<Outbound>, Script)) -> Vec<Seq> {
    outbound.flush();
    socket.take_texts().iter().map(|text| text.parse().unwrap()).collect()
}

fn place(feed: &mut Feed, event: Event) -> Placed {
    feed.place(&mut std::iter::once(event))
}

/// These events, by their numbers, went to so many.
fn delivered(deliveries: usize, events: &[u128]) -> Placed {
    let sent = |number: &u128| Sent { id: Uuid::from_u128(*number), trail: None };
    Placed { deliveries, sent: events.iter().map(sent).collect(), ..Placed::default() }
}

const EARLY: Placed = Placed { deliveries: 0, lacks: true, broken: false, sent: Vec::new() };
const BROKEN: Placed = Placed { deliveries: 0, lacks: false, broken: true, sent: Vec::new() };

const ME: ConnectionId = ConnectionId(1);

#[test]
fn events_are_delivered_in_order_once_however_they_come() {
    // Every order of five events, each given twice.
    let mut orders = vec![vec![]];
    for seq in 1..=5 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<Seq>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, seq);
                    order
                })
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let mut feed = Feed::new(3);
        feed.load(0, 1);
        let me = outbound();
        assert_eq!(feed.follow(ME, &me.0, 1, 0), Follow::Joined(0));
        for &seq in order.iter().chain(&order) {
            place(&mut feed, event(seq));
        }
        assert_eq!(seen(&me), [1, 2, 3, 4, 5], "{order:?}");
        assert!(!feed.is_lacking());
    }
}

#[test]
fn a_gap_is_told_and_filled_by_whatever_brings_the_missing_event() {
    let mut feed = Feed::new(3);
    feed.load(10, 1);
    let me = outbound();
    feed.follow(ME, &me.0, 1, 10);
    assert_eq!(place(&mut feed, event(12)), EARLY);
    assert!(feed.is_lacking() && seen(&me).is_empty());
    assert_eq!(place(&mut feed, event(11)), delivered(2, &[11, 12]));
    assert_eq!(seen(&me), [11, 12]);
    assert!(feed.hear(13), "a head that was heard of is missing");
}

#[test]
fn what_comes_before_the_head_is_known_waits_and_nothing_is_lost() {
    let mut feed = Feed::new(3);
    let me = outbound();
    assert_eq!(feed.follow(ME, &me.0, 1, 4), Follow::Loading);
    for seq in [5, 6, 8] {
        place(&mut feed, event(seq));
    }
    feed.load(5, 1);
    assert_eq!(feed.head(), Some(6));
    assert!(feed.is_lacking(), "8 waits for 7");
    assert_eq!(feed.follow(ME, &me.0, 1, 6), Follow::Joined(0));
    place(&mut feed, event(7));
    assert_eq!(seen(&me), [7, 8]);
}

#[test]
fn another_history_ends_this_one_and_an_earlier_one_is_not_delivered() {
    let mut feed = Feed::new(3);
    feed.load(10, 2);
    let me = outbound();
    feed.follow(ME, &me.0, 2, 10);
    assert_eq!(place(&mut feed, Event { epoch: 1, ..event(11) }), delivered(0, &[]));
    assert_eq!(place(&mut feed, Event { epoch: 2, ..event(11) }), delivered(1, &[11]));
    assert_eq!(place(&mut feed, Event { epoch: 3, ..event(12) }), BROKEN);
    assert!(feed.is_of(2) && !feed.is_of(3));
    assert_eq!(feed.restart().len(), 1);
    assert!(feed.is_unused() && feed.is_of(3));
    assert_eq!(feed.follow(ME, &me.0, 1, 12), Follow::Loading);
    assert_eq!(seen(&me), [11]);
}

#[test]
fn a_connection_joins_only_at_the_head() {
    let mut feed = Feed::new(3);
    feed.load(10, 1);
    for seq in 11..=15 {
        place(&mut feed, event(seq));
    }
    let me = outbound();
    assert_eq!(feed.follow(ME, &me.0, 1, 16), Follow::Ahead);
    assert_eq!(feed.follow(ME, &me.0, 1, 11), Follow::Behind { head: 15 });
    assert_eq!(feed.follow(ME, &me.0, 1, 12), Follow::Joined(3));
    place(&mut feed, event(16));
    assert_eq!(seen(&me), [13, 14, 15, 16]);
}

#[test]
fn what_was_read_from_the_store_serves_the_next_connection() {
    let mut feed = Feed::new(3);
    feed.load(10, 1);
    let me = outbound();
    feed.remember(&[Event { epoch: 2, ..event(10) }], 10);
    assert_eq!(
        feed.follow(ME, &me.0, 1, 9),
        Follow::Behind { head: 10 },
        "what belongs to a later history is not kept"
    );
    feed.remember(&[event(6), event(7), event(8), event(9), event(10)], 10);
    assert_eq!(feed.follow(ME, &me.0, 1, 6), Follow::Behind { head: 10 });
    assert_eq!(feed.follow(ME, &me.0, 1, 7), Follow::Joined(3));
    assert_eq!(seen(&me), [8, 9, 10]);
    feed.remember(&[event(3), event(4)], 10);
    assert_eq!(feed.follow(ME, &me.0, 1, 4), Follow::Behind { head: 10 }, "what does not join is not kept");
}

#[test]
fn what_comes_together_goes_out_as_one_piece_that_all_share() {
    let mut feed = Feed::new(3);
    feed.load(0, 1);
    let members = [outbound(), outbound()];
    for (number, member) in (1..).zip(&members) {
        feed.follow(ConnectionId(number), &member.0, 1, 0);
    }
    let later = Event { epoch: 2, ..event(4) };
    let mut events = [event(2), event(1), event(3), later, event(5)].into_iter();
    assert_eq!(feed.place(&mut events), Placed { broken: true, ..delivered(6, &[1, 2, 3]) });
    assert_eq!(
        events.map(|event| event.seq).collect::<Vec<_>>(),
        [5],
        "what is behind the break is still to be placed"
    );
    for member in &members {
        assert_eq!(seen(member), [1, 2, 3]);
        assert_eq!(member.1.writes(), 1);
    }
}

#[test]
fn a_text_that_was_taken_back_is_not_told_again_from_memory() {
    let mut feed = Feed::new(5);
    feed.load(0, 1);
    for seq in 1..=3 {
        place(&mut feed, event(seq));
    }
    place(&mut feed, Event { rewrites: true, ..event(4) });
    let me = outbound();
    assert_eq!(feed.follow(ME, &me.0, 1, 2), Follow::Behind { head: 4 }, "3 may be what 4 deletes");
    assert_eq!(feed.follow(ME, &me.0, 1, 3), Follow::Joined(1));
    assert_eq!(seen(&me), [4]);
}

#[test]
fn what_was_read_before_it_was_taken_back_is_not_kept() {
    let mut feed = Feed::new(5);
    feed.load(2, 1);
    // The log is read, and while the answer is on its way 3 changes what 2 says.
    place(&mut feed, Event { rewrites: true, ..event(3) });
    feed.remember(&[event(1), event(2)], 2);
    let me = outbound();
    assert_eq!(feed.follow(ME, &me.0, 1, 1), Follow::Behind { head: 3 });
    feed.remember(&[event(1), event(2)], 3);
    assert_eq!(feed.follow(ME, &me.0, 1, 1), Follow::Joined(2));
    assert_eq!(seen(&me), [2, 3]);
}

#[test]
fn a_connection_joins_the_history_that_it_was_welcomed_to_or_none() {
    let (mut feed, me) = (Feed::new(3), outbound());
    feed.load(10, 2);
    assert_eq!(feed.follow(ME, &me.0, 1, 10), Follow::Over, "wherever it is in it");
    assert_eq!(feed.follow(ME, &me.0, 1, 12), Follow::Over);
    assert_eq!(feed.follow(ME, &me.0, 3, 10), Follow::Stale);
    assert!(feed.restart().is_empty(), "nobody has joined");
    feed.load(9, 3);
    assert_eq!(feed.follow(ME, &me.0, 3, 9), Follow::Joined(0));
}
