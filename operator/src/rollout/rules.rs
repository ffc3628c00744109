//! The rules of a safe rollout, by name. Each stands where it is kept, as `holds(Rule::...)`.
//!
//! In the program every rule always holds. The tests break one at a time and expect the simulation to notice, so that no rule is there
//! that nothing needs, and none can be lost unseen.

/// A rule of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Another template restarts no pod: the partition covers every pod in the same write.
    CoverTemplate,
    /// At rest the partition covers every pod, so that a stray template restarts none.
    CoverAtRest,
    /// Rest begins when the StatefulSet's controller has taken the new revision as the current one, or a pod that dies would be
    /// born old.
    RestWhenComplete,
    /// The status of a StatefulSet counts only for the spec that it speaks of.
    FreshStatus,
    /// Before new nodes are added the Service is pinned to the nodes that clients are on.
    PinFirst,
    /// New nodes are ready before an old one leaves for them.
    NewReady,
    /// New nodes prove themselves before a client is led to them.
    SelfTest,
    /// A whole batch of new nodes takes the new connections, not a single one.
    SteerBatch,
    /// Fewer ready new nodes than that, and the Service goes back to the old ones.
    SteerBack,
    /// A revision without ready nodes is never served while another has some.
    ServeTheReady,
    /// Old nodes leave only when the endpoints show new nodes alone.
    EndpointsAlone,
    /// Load balancers get time to follow the endpoints.
    Settle,
    /// New nodes serve for a while before they are judged good enough.
    Soak,
    /// New nodes that do worse stop the rollout.
    WorseFails,
    /// Too few samples are no proof.
    SamplesMin,
    /// As many nodes stay ready as must.
    KeepReady,
    /// Not more nodes leave than were added.
    SlideBySurge,
    /// A missing node below the partition will be born old.
    MissingIsOld,
    /// Old nodes that are broken do not hold up their replacement.
    BrokenDoNotBlock,
    /// Fewer nodes wanted in the middle: old ones leave, not proven new ones.
    ScaleDownOld,
    /// A paused rollout stands still.
    PausedStays,
    /// While rollouts are paused nodes are born of the spec that ran, also after a sleep.
    PausedKeeps,
    /// A failed spec is not tried again by itself.
    RememberFailed,
    /// On the way back clients are led to old nodes before new ones leave.
    LeadBack,
    /// On the way back load balancers get time as well.
    SettleBack,
    /// On the way back old nodes are born and ready before new ones leave.
    OldReady,
    /// New nodes that are stuck leave at once.
    StuckLeave,
    /// The old template is written when no new node is left, not before.
    TemplateLast,
    /// A StatefulSet that is made again begins at the lowest node that lives.
    AdoptLowest,
    /// A StatefulSet that is made again restarts no node that it adopts.
    AdoptCovers,
    /// A pod of a dead machine is deleted by force.
    DeadMachine,
    /// But never one with a volume, which two machines might then write.
    DeadMachineBound,
    /// The deadline counts from the last progress, and a node that comes and goes is none.
    Deadline,
    /// Time in which nobody looked is no time without progress.
    Absence,
}

/// Whether a rule holds: always.
#[cfg(not(test))]
pub(super) const fn holds(_: Rule) -> bool {
    true
}

#[cfg(test)]
pub(super) use broken::{ALL, broken, holds};

#[cfg(test)]
mod broken {
    use std::cell::Cell;

    use super::Rule::{self, *};

    /// Every rule.
    pub(in super::super) const ALL: [Rule; 34] = [
        CoverTemplate,
        CoverAtRest,
        RestWhenComplete,
        FreshStatus,
        PinFirst,
        NewReady,
        SelfTest,
        SteerBatch,
        SteerBack,
        ServeTheReady,
        EndpointsAlone,
        Settle,
        Soak,
        WorseFails,
        SamplesMin,
        KeepReady,
        SlideBySurge,
        MissingIsOld,
        BrokenDoNotBlock,
        ScaleDownOld,
        PausedStays,
        PausedKeeps,
        RememberFailed,
        LeadBack,
        SettleBack,
        OldReady,
        StuckLeave,
        TemplateLast,
        AdoptLowest,
        AdoptCovers,
        DeadMachine,
        DeadMachineBound,
        Deadline,
        Absence,
    ];

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Whether a rule holds: unless this thread is breaking it.
    pub(in super::super) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Does something in a world in which one rule does not hold.
    pub(in super::super) fn broken<T>(rule: Rule, act: impl FnOnce() -> T) -> T {
        BROKEN.set(Some(rule));
        let done = act();
        BROKEN.set(None);
        done
    }
}
