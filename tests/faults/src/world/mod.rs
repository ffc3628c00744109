//! What Kubernetes does around the API server, as far as a ChatCluster's children need it: the controllers of StatefulSets and
//! EndpointSlices, the garbage collector and a kubelet.
//!
//! Each is a function from the objects to their next ones. They take turns after every change, and when something of the
//! kubelet's is due.

mod endpoints;
mod garbage;
mod kubelet;
mod stateful_set;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use crate::api::Server;

pub(crate) use self::endpoints::selects;
pub use self::kubelet::{Answers, BROKEN, UNPROVEN, WORSE, fails};

/// Time between a change and the controllers' turn.
const REACTION: Duration = Duration::from_millis(20);

/// Turns at one moment; more of them is a fight between controllers.
const TURNS_MAX: usize = 1_000;

/// Lets Kubernetes work for ever. While `away` is set nobody looks after StatefulSets, as between two leaders of the controllers.
pub async fn run(server: Server, away: Arc<AtomicBool>) {
    let mut kubelet = kubelet::Kubelet::default();
    let bell = server.bell();
    loop {
        let rung = bell.notified();
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "the controllers never come to an end");
            let before = server.store().version();
            garbage::collect(&server);
            if !away.load(Relaxed) {
                stateful_set::sync(&server);
            }
            kubelet.sync(&server);
            endpoints::sync(&server);
            if server.store().version() == before {
                break;
            }
            sleep(REACTION).await;
        }
        let due = kubelet.due().unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            biased;
            () = rung => {}
            () = sleep_until(due) => {}
        }
        sleep(REACTION).await;
    }
}
