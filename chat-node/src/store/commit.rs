//! Committing a batch, whatever is in it: a send that poisons it is found by bisection and refused alone.

use std::time::Duration;

use super::{Answer, Append, Content, Store, StoreError, within};
use crate::protocol::Code;

/// How long a batch may take. Beyond, its commit is unknown: it may have happened.
const COMMIT_SECONDS_MAX: Duration = Duration::from_secs(3);

/// Commits as much of a batch as the store takes. Gives the answers to the sends from the front, and why the others have none: those may
/// be committed or not, and are to be tried again under the same keys.
pub async fn commit(store: &dyn Store, batch: &mut [Append]) -> (Vec<Result<Answer, Code>>, Option<StoreError>) {
    let mut answers = Vec::with_capacity(batch.len());
    // Parts still to commit are batch[answers.len()..]; `size` of them are tried at once.
    let mut size = batch.len();
    while answers.len() < batch.len() {
        let from = answers.len();
        let to = (from + size).min(batch.len());
        match within(COMMIT_SECONDS_MAX, store.append(&batch[from..to])).await {
            Ok(done) => {
                answers.extend(done.into_iter().map(Ok));
                size = batch.len();
            }
            Err(StoreError::Poisoned(_)) if to - from > 1 => size = (to - from) / 2,
            Err(error @ StoreError::Poisoned(_)) => {
                // Refuse it through the log, so that its number is used up; a second refusal is the store's fault.
                if batch[from].content == Content::Refused(Code::BadText) {
                    tracing::error!(%error, "a refusal could not be stored");
                    answers.push(Err(Code::Internal));
                } else {
                    batch[from].content = Content::Refused(Code::BadText);
                }
                size = 1;
            }
            Err(error) => return (answers, Some(error)),
        }
    }
    (answers, None)
}
