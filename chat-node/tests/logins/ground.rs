//! Empty stores with small limits.

use chat_node::store::{SharedStore, StoreLimits};

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 3, members_per_room_max: 3, outbox_results_kept: 5 };

/// Runs a claim on both stores, each empty.
pub(crate) async fn on_both<F: Future<Output = ()>>(claim: impl Fn(SharedStore) -> F) {
    crate::support::on_both(LIMITS, claim).await;
}
