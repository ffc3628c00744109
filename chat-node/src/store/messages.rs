//! What happens to a message after it is there: edits, deletion, reactions.
//!
//! A message's row always says what the message says now, and the event tells of the change: so a page of history is right by
//! itself, and so is a replay. No other row keeps a text that is replaced or deleted.

use super::{
    Changed, StoreError,
    moderation::{Acting, unchanged},
    rooms::{Draft, record},
    statements::LifeTransaction,
};
use crate::{
    event::{Details, EventBody, Kind, Mark, Reference, User},
    protocol::Code,
    rights::Action,
};

/// Different reactions of one message.
const REACTIONS_PER_MESSAGE_MAX: i64 = 50;

/// Replaces the text of a message.
pub(super) async fn edit(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    target: Reference,
    text: &str,
) -> Result<Changed, StoreError> {
    let message = message(tx, &acting, target).await?;
    let own = *acting.user == message.sender;
    acting.check(if own { Action::EditOwn } else { Action::EditOther })?;
    if message.text.as_deref() == Some(text) {
        return Ok(unchanged(acting.room));
    }
    let mark = take_mark(tx, &acting, &message).await?;
    let details = Details { edited: Some(mark), ..message.details.map_or_else(Details::default, |details| *details) };
    tx.rewrite(acting.room.id, target.seq, Some(text), Some(&details)).await?;
    let details = Details { target: Some(target), ..Details::default() };
    let draft = Draft { text: Some(text.to_owned()), details, ..Draft::new(Kind::Edited, acting.user) };
    record(tx, acting.room, vec![draft], Vec::new(), acting.now_ms).await
}

/// Takes the text of a message away, and everything that hangs on it.
pub(super) async fn delete(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    target: Reference,
) -> Result<Changed, StoreError> {
    let found = tx.event(acting.room.id, target.seq).await?;
    if found.is_some_and(|event| event.reference() == target && is_deleted(&event)) {
        return Ok(unchanged(acting.room));
    }
    let message = message(tx, &acting, target).await?;
    let own = *acting.user == message.sender;
    acting.check(if own { Action::DeleteOwn } else { Action::DeleteOther })?;
    let mark = take_mark(tx, &acting, &message).await?;
    let Details { reply, mentions, .. } = message.details.map_or_else(Details::default, |details| *details);
    let details = Details { deleted: Some(mark), reply, ..Details::default() };
    tx.rewrite(acting.room.id, target.seq, None, Some(&details)).await?;
    tx.forget(acting.room.id, target.seq, &mentions).await?;
    let details = Details { target: Some(target), ..Details::default() };
    let draft = Draft { details, ..Draft::new(Kind::Deleted, acting.user) };
    record(tx, acting.room, vec![draft], Vec::new(), acting.now_ms).await
}

/// Adds a reaction to a message, or takes one's own back.
pub(super) async fn react(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    target: Reference,
    reaction: &str,
    add: bool,
) -> Result<Changed, StoreError> {
    acting.check(Action::React)?;
    message(tx, &acting, target).await?;
    let room = acting.room.id;
    let changed = match add {
        true => tx.react(room, target.seq, acting.user, reaction).await?,
        false => tx.unreact(room, target.seq, acting.user, reaction).await?,
    };
    if !changed {
        return Ok(unchanged(acting.room));
    }
    if add && tx.reactions(room, target.seq).await? > REACTIONS_PER_MESSAGE_MAX {
        return Err(StoreError::Refused(Code::TooManyReactions));
    }
    let kind = if add { Kind::Reacted } else { Kind::Unreacted };
    let details = Details { target: Some(target), reaction: Some(reaction.to_owned()), ..Details::default() };
    let draft = Draft { details, ..Draft::new(kind, acting.user) };
    record(tx, acting.room, vec![draft], Vec::new(), acting.now_ms).await
}

/// The message that is referred to, unless it was deleted.
async fn message(
    tx: &mut dyn LifeTransaction,
    acting: &Acting<'_>,
    target: Reference,
) -> Result<EventBody, StoreError> {
    let found = tx.event(acting.room.id, target.seq).await?;
    let is_it = |event: &EventBody| event.reference() == target && event.kind == Kind::Message && !is_deleted(event);
    found.filter(is_it).ok_or(StoreError::Refused(Code::UnknownEvent))
}

fn is_deleted(event: &EventBody) -> bool {
    event.details.as_ref().is_some_and(|details| details.deleted.is_some())
}

/// The mark of the change that is about to be recorded. Takes the text out of an earlier edit, which it replaces.
async fn take_mark(tx: &mut dyn LifeTransaction, acting: &Acting<'_>, message: &EventBody) -> Result<Mark, StoreError> {
    if let Some(earlier) = message.details.as_ref().and_then(|details| details.edited.as_ref()) {
        tx.blank(acting.room.id, earlier.seq).await?;
    }
    let sender: User = acting.user.clone();
    Ok(Mark { sender, time: acting.now_ms, seq: acting.room.head + 1 })
}
