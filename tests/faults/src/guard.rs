//! What holds of a cluster between two changes, and how a schedule comes by that: by what users want, and by when it rested.

use serde_json::Value;

use crate::{declared::allowance, world};

/// What holds of a cluster between two versions, while nobody but the operator disturbs it.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The cluster.
    pub cluster: String,
    /// From the change after this one on.
    pub from: u64,
    /// Up to this change.
    pub to: u64,
    /// Nodes that must serve.
    pub nodes_min: i64,
    /// Nodes that there may be.
    pub nodes_max: i64,
    /// A rollout may still be under way.
    pub rolls: bool,
    /// Only one change of the pods was wanted in between.
    pub one_rollout: bool,
    /// Clients are steered to new nodes before old ones leave: there is a surge, and the number of nodes stays.
    pub steers: bool,
}

/// The guards of a schedule. The last one of a cluster may be open: it holds until further notice.
#[derive(Debug, Default)]
pub struct Guards(Vec<Guard>);

impl Guards {
    /// All of them, in the order in which they began.
    pub fn all(&self) -> &[Guard] {
        &self.0
    }

    /// What holds of a cluster now.
    pub fn open(&self, cluster: &str) -> Option<&Guard> {
        self.0.iter().rev().find(|guard| guard.cluster == cluster && guard.to == u64::MAX)
    }

    /// From now on anything may be missing of a cluster.
    pub fn close(&mut self, cluster: &str, version: u64) {
        for guard in self.0.iter_mut().filter(|guard| guard.cluster == cluster && guard.to == u64::MAX) {
            guard.to = version;
        }
    }

    /// A cluster rests.
    pub fn rests(&mut self, cluster: &str, version: u64, spec: &Value) {
        let (nodes_min, nodes_max) = bounds(spec, spec);
        self.follow(Guard {
            cluster: cluster.to_owned(),
            from: version,
            to: u64::MAX,
            nodes_min,
            nodes_max,
            rolls: false,
            one_rollout: false,
            steers: false,
        });
    }

    /// Something else is wanted of a cluster: both what was and what is now wanted bound the nodes, unless anything may be missing already.
    pub fn changes(&mut self, cluster: &str, version: u64, before: &Value, now: &Value) {
        let Some(guard) = self.open(cluster).cloned() else { return };
        let (least, most) = bounds(before, now);
        let is_alone = !guard.rolls && before["replicas"] == now["replicas"];
        // A self-contained cluster restarts in place.
        let slides = is_alone && now["postgres"].is_object();
        self.follow(Guard {
            from: version,
            nodes_min: least.min(guard.nodes_min),
            nodes_max: most.max(guard.nodes_max),
            rolls: true,
            one_rollout: slides && !world::fails(now),
            steers: slides && allowance(now).1 > 0,
            ..guard
        });
    }

    /// A rollout may go the other way, or a node be born again. As many serve as before.
    pub fn turns(&mut self, cluster: &str, version: u64) {
        if let Some(guard) = self.open(cluster).cloned() {
            self.follow(Guard { from: version, one_rollout: false, steers: false, ..guard });
        }
    }

    fn follow(&mut self, next: Guard) {
        self.close(&next.cluster, next.from);
        self.0.push(next);
    }
}

/// Nodes that must serve, and nodes that there may be, between two specs.
fn bounds(before: &Value, after: &Value) -> (i64, i64) {
    let of = |spec: &Value| {
        let nodes = spec["replicas"].as_i64().unwrap_or(1);
        let (unavailable, surge) = allowance(spec);
        // The one node of a self-contained cluster restarts in place.
        let least = if spec["postgres"].is_object() { nodes - unavailable } else { 0 };
        // Without surge a new node may be made just before the old one is told to leave.
        (least, nodes + surge.max(unavailable))
    };
    let ((a, b), (c, d)) = (of(before), of(after));
    (a.min(c), b.max(d))
}
