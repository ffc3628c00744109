//! The clock of the progress deadline: since when nothing has come forward, and how much of that time somebody looked.
//!
//! Owns what an absence costs: of the operator, or of anybody who looks, because `spec.paused` is true or a binding is missing. Nobody asks
//! nodes to test themselves and nobody leads clients then, so a rollout that was not looked after has not failed. It must never have a
//! rollout wait without end: an operator that crashes again and again is away each time.
//!
//! So an absence counts as a minute, or as half of what was left when that is less. The first look after one fails nothing by itself as long as
//! there were two seconds left, and each brings the deadline nearer: after one absence for each minute of it, and seven more, it is over, but
//! for time in which somebody looked, which counts as it is. A process that ends before it has written down its first look costs nothing.

use std::time::Duration;

use crds::chatcluster::RolloutStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    elapsed,
    progress::next_second,
    rules::{Rule, holds},
};

/// Age of a noted look at which a new one is noted. The operator looks every half a minute, and oftener when something happens.
const NOTED_AGE_MAX: Duration = Duration::from_secs(20);

/// Time between two looks in which nobody looked: longer than a note may be old and the next look may take.
const ABSENCE: Duration = Duration::from_secs(60);

/// How the deadline stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// From when on the time without progress counts: the progress itself, or as much later as nobody looked.
    pub(super) since: Timestamp,
    /// The look that was noted last; `None` while the clock stands.
    pub(super) looked: Option<Timestamp>,
}

impl Clock {
    /// Progress was made just now. `runs` tells whether what comes next has a deadline.
    pub(super) fn begin(runs: bool, now: Timestamp) -> Clock {
        let since = next_second(now);
        Clock { since, looked: runs.then_some(since) }
    }

    /// Nothing has come forward since what was told, and `limit` is how long that may last.
    pub(super) fn go_on(told: &RolloutStatus, runs: bool, limit: Duration, now: Timestamp) -> Clock {
        let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
        let Some(since) = time(&told.last_progress_time) else { return Clock::begin(runs, now) };
        if !runs {
            return Clock { since, looked: None };
        }
        let looked = time(&told.last_look_time).unwrap_or(since);
        let left = limit.saturating_sub(elapsed(since, looked));
        if left.is_zero() {
            // It is over, and nothing is noted any more until something moves.
            return Clock { since, looked: Some(looked) };
        }
        let away = elapsed(looked, now);
        let counts = if away < ABSENCE || !holds(Rule::Absence) { away } else { ABSENCE.min(left / 2) };
        let since = later(since, away - counts);
        let is_over = elapsed(since, now) >= limit;
        let looked = if away >= NOTED_AGE_MAX || is_over { next_second(now) } else { looked };
        Clock { since, looked: Some(looked) }
    }
}

/// Later by whole seconds, of which the API server keeps nothing else.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(time.as_second().saturating_add(seconds)).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    /// Looks after these seconds each, and gives the clock as it was told last, and how long nothing has come forward by it.
    fn looks(told: Option<RolloutStatus>, limit: Duration, after: &[i64]) -> (RolloutStatus, Duration) {
        let second = |second| Timestamp::from_second(second).unwrap();
        let mut told = told.unwrap_or_else(|| note(Clock::begin(true, second(0))));
        let mut now = told.last_look_time.as_ref().map_or(0, |time| time.0.as_second());
        for seconds in after {
            now += seconds;
            told = note(Clock::go_on(&told, true, limit, second(now)));
        }
        let counted = elapsed(told.last_progress_time.as_ref().unwrap().0, second(now));
        (told, counted)
    }

    fn note(clock: Clock) -> RolloutStatus {
        let (since, looked) = (Some(Time(clock.since)), clock.looked.map(Time));
        RolloutStatus { last_progress_time: since, last_look_time: looked, ..RolloutStatus::default() }
    }

    #[test]
    fn time_in_which_somebody_looks_counts_as_it_is() {
        for step in [1, 7, 19, 30, 50] {
            let (_, counted) = looks(None, LIMIT, &[step; 6]);
            assert_eq!(counted.as_secs(), 6 * u64::try_from(step).unwrap(), "a look every {step} s");
        }
    }

    #[test]
    fn an_absence_counts_as_a_minute_or_as_half_of_what_is_left() {
        assert_eq!(looks(None, LIMIT, &[3600]).1.as_secs(), 60);
        assert_eq!(looks(None, LIMIT, &[30, 3600, 30]).1.as_secs(), 120);
        assert_eq!(looks(None, Duration::from_secs(60), &[40, 3600]).1.as_secs(), 50);
        // Told by an operator that noted no looks: that counts as one.
        let unnoted = RolloutStatus { last_look_time: None, ..looks(None, LIMIT, &[]).0 };
        assert_eq!(looks(Some(unnoted), LIMIT, &[500]).1.as_secs(), 60);
    }

    #[test]
    fn whoever_is_away_again_and_again_comes_to_the_deadline_all_the_same() {
        for limit in [1, 2, 60, 600, 86_400] {
            let limit = Duration::from_secs(limit);
            let absences = (1..).find(|absences| looks(None, limit, &vec![300; *absences]).1 >= limit).unwrap();
            let most = limit.as_secs() / 60 + 7;
            assert!(absences as u64 <= most, "{absences} absences for {limit:?}");
        }
    }

    #[test]
    fn a_look_is_noted_now_and_then_and_no_more_when_the_deadline_is_over() {
        let noted = |after: &[i64]| looks(None, LIMIT, after).0.last_look_time.unwrap().0.as_second();
        assert_eq!((noted(&[19]), noted(&[19, 1]), noted(&[5, 5, 5, 30])), (0, 20, 45));
        let (told, _) = looks(None, LIMIT, &[30; 20]);
        let (later, counted) = looks(Some(told.clone()), LIMIT, &[30, 100_000]);
        assert_eq!(later, told, "nothing is written of a rollout that is past its deadline");
        assert!(counted > LIMIT);
        // With more time it goes on from there.
        assert_eq!(looks(Some(told), 2 * LIMIT, &[100_000]).1.as_secs(), 660);
    }
}
