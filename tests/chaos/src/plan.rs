//! Which faults strike together, and for how long. Pure: a number decides, so that a run can be repeated.

use std::{fmt, time::Duration};

/// A server that the nodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The database.
    Postgres,
    /// The bus.
    Rabbitmq,
}

/// What can be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node, by its index.
    Node(usize),
    /// A server, and so all nodes at once.
    Server(Server),
    /// The link from one node to a server.
    Link(usize, Server),
    /// The links from all nodes to a server.
    Links(Server),
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// SIGKILL, like a power cut; started again at the end.
    Kill,
    /// SIGSTOP: everything stays open, and nothing answers; SIGCONT at the end.
    Freeze,
    /// SIGTERM, or the server's own orderly end; started again at the end.
    Leave,
    /// A link resets everything.
    Cut,
    /// A link swallows everything.
    Swallow,
    /// A link delays everything.
    Slow,
    /// A link is cut and mended again and again.
    Flap,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is struck.
    pub target: Target,
    /// What happens to it.
    pub harm: Harm,
}

/// Faults that strike one after the other and are mended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// What strikes.
    pub faults: Vec<Fault>,
    /// How long it lasts before it is mended.
    pub hold: Duration,
}

use Harm::{Cut, Flap, Freeze, Kill, Leave, Slow, Swallow};
use Server::{Postgres, Rabbitmq};
use Target::{Link, Links, Node};

/// Faults by themselves, those that each promise names first.
fn single(node: usize) -> Vec<Fault> {
    let of = |target: Target, harms: &[Harm]| harms.iter().map(move |&harm| Fault { target, harm }).collect::<Vec<_>>();
    let mut faults = of(Node(node), &[Kill, Freeze, Leave]);
    for server in [Postgres, Rabbitmq] {
        faults.extend(of(Target::Server(server), &[Kill, Freeze, Leave]));
        faults.extend(of(Links(server), &[Cut, Swallow, Flap]));
        faults.extend(of(Link(node, server), &[Cut, Swallow, Slow, Flap]));
    }
    faults
}

/// One round for each kind of fault, and those pairs that a design may forget: both servers away, and a node that dies or loses its
/// sight while one of them is.
pub fn short() -> Vec<Round> {
    let hold = Duration::from_secs(2);
    let round = |faults: &[(Target, Harm)]| {
        let fault = |&(target, harm)| Fault { target, harm };
        Round { faults: faults.iter().map(fault).collect(), hold }
    };
    vec![
        round(&[(Node(0), Kill)]),
        round(&[(Target::Server(Postgres), Kill)]),
        round(&[(Links(Rabbitmq), Cut)]),
        round(&[(Node(1), Freeze)]),
        round(&[(Links(Postgres), Flap)]),
        round(&[(Link(0, Postgres), Cut)]),
        round(&[(Links(Postgres), Swallow)]),
        round(&[(Links(Rabbitmq), Swallow)]),
        round(&[(Links(Postgres), Cut), (Node(0), Kill)]),
        round(&[(Links(Rabbitmq), Flap), (Link(1, Postgres), Flap)]),
        round(&[(Links(Postgres), Cut), (Links(Rabbitmq), Cut)]),
        round(&[(Target::Server(Rabbitmq), Kill)]),
        round(&[(Node(1), Leave)]),
    ]
}

/// Every fault by itself and every pair of faults on different targets, each once, in an order that `seed` decides. `nodes` are
/// struck in turn.
pub fn long(seed: u64, nodes: usize) -> Vec<Round> {
    let mut chance = Chance(seed | 1);
    let mut rounds = Vec::new();
    let kinds = single(0).len();
    for first in 0..kinds {
        for second in first..kinds {
            let faults = (single(first % nodes)[first], single((first + second) % nodes)[second]);
            let faults = match faults {
                (one, _) if first == second => vec![one],
                (one, other) if one.target == other.target => continue,
                (one, other) => vec![one, other],
            };
            let hold = Duration::from_millis(500 + chance.below(4_000));
            rounds.push(Round { faults, hold });
        }
    }
    // Fisher and Yates.
    for index in (1..rounds.len()).rev() {
        let other = usize::try_from(chance.below(index as u64 + 1)).unwrap_or(0);
        rounds.swap(index, other);
    }
    rounds
}

/// Xorshift (Marsaglia 2003): enough to shuffle, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { target, harm }) in self.faults.iter().enumerate() {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}{harm:?} {target:?}")?;
        }
        write!(f, " for {:?}", self.hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals strike processes, weather strikes links.
    fn makes_sense(fault: &Fault) -> bool {
        let is_link = matches!(fault.target, Link(..) | Links(_));
        matches!(fault.harm, Cut | Swallow | Slow | Flap) == is_link
    }

    #[test]
    fn every_kind_of_fault_is_in_the_long_plan_alone_and_with_every_other() {
        let rounds = long(7, 3);
        assert!(rounds.iter().all(|round| round.faults.iter().all(makes_sense)));
        let alone = rounds.iter().filter(|round| round.faults.len() == 1).count();
        assert_eq!(alone, single(0).len());
        let harms_together = |one: Harm, other: Harm| {
            rounds.iter().any(|round| {
                let harms: Vec<Harm> = round.faults.iter().map(|fault| fault.harm).collect();
                harms == [one, other] || harms == [other, one]
            })
        };
        for one in [Kill, Freeze, Leave, Cut, Swallow, Slow, Flap] {
            for other in [Kill, Freeze, Leave, Cut, Swallow, Slow, Flap] {
                assert!(harms_together(one, other), "{one:?} never meets {other:?}");
            }
        }
    }

    #[test]
    fn the_seed_alone_decides_the_order() {
        assert_eq!(long(1, 3), long(1, 3));
        assert_ne!(long(1, 3), long(2, 3));
    }

    #[test]
    fn the_short_plan_makes_sense_too() {
        assert!(short().iter().all(|round| !round.faults.is_empty() && round.faults.iter().all(makes_sense)));
    }
}
