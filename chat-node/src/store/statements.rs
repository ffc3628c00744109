//! Statements that read the same in every store, written once.

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, rooms::RoomTransaction};
use crate::event::{Details, EventBody, Seq, Standing, User};

/// Until when somebody may not be in a room or may not write there, in milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sanction {
    pub banned_until: i64,
    pub muted_until: i64,
}

/// A transaction, as far as the life of messages and members needs it. The room is locked meanwhile.
#[async_trait]
pub(super) trait LifeTransaction: RoomTransaction {
    /// How a member stands; `None` for others.
    async fn standing(&mut self, room: Uuid, user: &str) -> Result<Option<Standing>, StoreError>;
    /// Lets a member stand otherwise.
    async fn set_standing(&mut self, room: Uuid, user: &str, standing: Standing) -> Result<(), StoreError>;
    /// What holds against a user, as a member or not.
    async fn sanction(&mut self, room: Uuid, user: &str) -> Result<Sanction, StoreError>;
    /// Replaces it.
    async fn set_sanction(&mut self, room: Uuid, user: &str, sanction: Sanction) -> Result<(), StoreError>;
    /// Who comes next: the most powerful member, and of those the one who has been there longest.
    async fn successor(&mut self, room: Uuid) -> Result<Option<User>, StoreError>;
    /// Says what the room is about.
    async fn set_topic(&mut self, room: Uuid, topic: Option<&str>) -> Result<(), StoreError>;
    /// Reads an event.
    async fn event(&mut self, room: Uuid, seq: Seq) -> Result<Option<EventBody>, StoreError>;
    /// Replaces what an event says.
    async fn rewrite(
        &mut self,
        room: Uuid,
        seq: Seq,
        text: Option<&str>,
        details: Option<&Details>,
    ) -> Result<(), StoreError>;
    /// Takes the text out of an event.
    async fn blank(&mut self, room: Uuid, seq: Seq) -> Result<(), StoreError>;
    /// Removes a message's reactions, and the mentions of these users in it.
    async fn forget(&mut self, room: Uuid, seq: Seq, mentions: &[User]) -> Result<(), StoreError>;
    /// Adds a reaction. `false` when it was there.
    async fn react(&mut self, room: Uuid, seq: Seq, user: &str, reaction: &str) -> Result<bool, StoreError>;
    /// Removes a reaction. `false` when it was not there.
    async fn unreact(&mut self, room: Uuid, seq: Seq, user: &str, reaction: &str) -> Result<bool, StoreError>;
    /// How many different reactions a message has.
    async fn reactions(&mut self, room: Uuid, seq: Seq) -> Result<i64, StoreError>;
}

/// Implements [`LifeTransaction`] for a transaction type that wraps sqlx's.
macro_rules! life_transaction {
    ($transaction:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::statements::LifeTransaction for $transaction {
            async fn standing(
                &mut self,
                room: uuid::Uuid,
                user: &str,
            ) -> Result<Option<$crate::event::Standing>, $crate::store::StoreError> {
                let query = sqlx::query_as("SELECT role, muted_until_ms FROM members WHERE member = $1 AND room = $2");
                let row: Option<(i16, i64)> = query.bind(user).bind(room).fetch_optional(&mut *self.0).await?;
                Ok(row.map(|(role, muted_until)| $crate::event::Standing {
                    role: $crate::event::Role::from_number(role),
                    muted_until,
                }))
            }

            async fn set_standing(
                &mut self,
                room: uuid::Uuid,
                user: &str,
                standing: $crate::event::Standing,
            ) -> Result<(), $crate::store::StoreError> {
                sqlx::query("UPDATE members SET role = $3, muted_until_ms = $4 WHERE member = $1 AND room = $2")
                    .bind(user)
                    .bind(room)
                    .bind(standing.role as i16)
                    .bind(standing.muted_until)
                    .execute(&mut *self.0)
                    .await?;
                Ok(())
            }

            async fn sanction(
                &mut self,
                room: uuid::Uuid,
                user: &str,
            ) -> Result<$crate::store::statements::Sanction, $crate::store::StoreError> {
                let query = "SELECT banned_until_ms, muted_until_ms FROM sanctions WHERE room = $1 AND member = $2";
                let query = sqlx::query_as(query).bind(room).bind(user);
                let row: Option<(i64, i64)> = query.fetch_optional(&mut *self.0).await?;
                let (banned_until, muted_until) = row.unwrap_or_default();
                Ok($crate::store::statements::Sanction { banned_until, muted_until })
            }

            async fn set_sanction(
                &mut self,
                room: uuid::Uuid,
                user: &str,
                sanction: $crate::store::statements::Sanction,
            ) -> Result<(), $crate::store::StoreError> {
                sqlx::query(
                    "INSERT INTO sanctions (room, member, banned_until_ms, muted_until_ms) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (room, member) DO UPDATE
                     SET banned_until_ms = excluded.banned_until_ms, muted_until_ms = excluded.muted_until_ms",
                )
                .bind(room)
                .bind(user)
                .bind(sanction.banned_until)
                .bind(sanction.muted_until)
                .execute(&mut *self.0)
                .await?;
                Ok(())
            }

            async fn successor(
                &mut self,
                room: uuid::Uuid,
            ) -> Result<Option<$crate::event::User>, $crate::store::StoreError> {
                let query = "SELECT member FROM members WHERE room = $1 ORDER BY role DESC, joined_ms, member LIMIT 1";
                let row: Option<(String,)> = sqlx::query_as(query).bind(room).fetch_optional(&mut *self.0).await?;
                Ok(row.map(|(member,)| member.into()))
            }

            async fn set_topic(
                &mut self,
                room: uuid::Uuid,
                topic: Option<&str>,
            ) -> Result<(), $crate::store::StoreError> {
                let query = sqlx::query("UPDATE rooms SET topic = $2 WHERE id = $1").bind(room).bind(topic);
                query.execute(&mut *self.0).await?;
                Ok(())
            }

            async fn event(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
            ) -> Result<Option<$crate::event::EventBody>, $crate::store::StoreError> {
                let query = concat!(
                    "SELECT ",
                    $crate::store::rows::event_columns!(),
                    " FROM events WHERE room = $1 AND seq = $2"
                );
                let query = sqlx::query_as(query).bind(room).bind(seq);
                let row: Option<$crate::store::rows::EventRow> = query.fetch_optional(&mut *self.0).await?;
                Ok(row.map($crate::store::rows::event))
            }

            async fn rewrite(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
                text: Option<&str>,
                details: Option<&$crate::event::Details>,
            ) -> Result<(), $crate::store::StoreError> {
                sqlx::query("UPDATE events SET body = $3, details = $4 WHERE room = $1 AND seq = $2")
                    .bind(room)
                    .bind(seq)
                    .bind(text)
                    .bind(details.map($crate::event::Details::to_json))
                    .execute(&mut *self.0)
                    .await?;
                Ok(())
            }

            async fn blank(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
            ) -> Result<(), $crate::store::StoreError> {
                let query = sqlx::query("UPDATE events SET body = NULL WHERE room = $1 AND seq = $2");
                query.bind(room).bind(seq).execute(&mut *self.0).await?;
                Ok(())
            }

            async fn forget(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
                mentions: &[$crate::event::User],
            ) -> Result<(), $crate::store::StoreError> {
                let reactions = sqlx::query("DELETE FROM reactions WHERE room = $1 AND seq = $2");
                reactions.bind(room).bind(seq).execute(&mut *self.0).await?;
                for user in mentions {
                    let mention = sqlx::query("DELETE FROM mentions WHERE member = $1 AND room = $2 AND seq = $3");
                    mention.bind(&**user).bind(room).bind(seq).execute(&mut *self.0).await?;
                }
                Ok(())
            }

            async fn react(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
                user: &str,
                reaction: &str,
            ) -> Result<bool, $crate::store::StoreError> {
                let query = "INSERT INTO reactions (room, seq, reaction, member) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
                let query = sqlx::query(query).bind(room).bind(seq).bind(reaction).bind(user);
                Ok(query.execute(&mut *self.0).await?.rows_affected() == 1)
            }

            async fn unreact(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
                user: &str,
                reaction: &str,
            ) -> Result<bool, $crate::store::StoreError> {
                let query = "DELETE FROM reactions WHERE room = $1 AND seq = $2 AND reaction = $3 AND member = $4";
                let query = sqlx::query(query).bind(room).bind(seq).bind(reaction).bind(user);
                Ok(query.execute(&mut *self.0).await?.rows_affected() == 1)
            }

            async fn reactions(
                &mut self,
                room: uuid::Uuid,
                seq: $crate::event::Seq,
            ) -> Result<i64, $crate::store::StoreError> {
                let query = "SELECT count(DISTINCT reaction) FROM reactions WHERE room = $1 AND seq = $2";
                Ok(sqlx::query_scalar(query).bind(room).bind(seq).fetch_one(&mut *self.0).await?)
            }
        }
    };
}
pub(super) use life_transaction;
