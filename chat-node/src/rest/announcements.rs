//! Announcements: made and ended by administrators, and read by everybody.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Rest,
    caller::{Caller, admin},
    idempotency::key,
    input::{At, Body, Parameters, maybe_whole},
    page::{self, Limit},
    problem::{Problem, Reason},
};
use crate::{
    gateway::{Gateway, now_ms},
    protocol::{AnnouncementFrame, Code, check_announcement},
    store::{Announced, Announcement, AnnouncementKey},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Something to be announced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewAnnouncement {
    /// What is said: at most 2,048 bytes.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::TEXT, "maxLength" = crate::protocol::ANNOUNCEMENT_BYTES_MAX)))]
    text: String,
    /// How long it is in force, in seconds: at most a hundred years. Without it: until it is ended.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[cfg_attr(test, schemars(range(min = 1, max = crate::protocol::SANCTION_SECONDS_MAX)))]
    seconds: Option<u64>,
}

/// Which page of the announcements.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct AnnouncementsPage {
    /// `next` of the page before. Without it: the first page.
    cursor: Option<Uuid>,
    /// Announcements in the page, at most.
    #[serde(default)]
    limit: Limit,
}

/// A page of the announcements in force, in the order of time.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Announcements {
    /// The announcements.
    announcements: Vec<AnnouncementFrame>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// `POST /announcements`
pub(super) async fn announce(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    headers: HeaderMap,
    Body(NewAnnouncement { text, seconds }): Body<NewAnnouncement>,
) -> Result<(StatusCode, Json<AnnouncementFrame>), Problem> {
    let key = key(&headers)?;
    admin(&claims)?;
    check_announcement(&text, seconds).map_err(|code| match code {
        Code::TextTooLong => Problem::from(code).because("an announcement has at most 2048 bytes: write less"),
        code => code.into(),
    })?;
    let time_ms = now_ms();
    let until_ms = seconds.map(|seconds| time_ms.saturating_add_unsigned(seconds.saturating_mul(1_000)));
    let announcement = Announcement { id: Uuid::now_v7(), sender: claims.user, text, time_ms, until_ms };
    let known_since_ms = time_ms - i64::from(rest.gateway.config.retention.outbox_days) * DAY_MS;
    let key = key.map(|key| AnnouncementKey { key, known_since_ms });
    let announcement = match rest.gateway.store.announce(&announcement, key).await? {
        Announced::Now => announcement,
        Announced::Before(first) => first,
        Announced::TooMany => return Err(Reason::TooManyAnnouncements.into()),
    };
    tell(&rest.gateway);
    Ok((StatusCode::CREATED, Json(AnnouncementFrame::new(&announcement))))
}

/// `GET /announcements`
pub(super) async fn list(
    State(rest): State<Arc<Rest>>,
    _: Caller,
    Parameters(asked): Parameters<AnnouncementsPage>,
) -> Result<Json<Announcements>, Problem> {
    let read = rest.gateway.store.announcements(asked.cursor, asked.limit.rows(), now_ms()).await?;
    let (read, next) = page::cut(read, asked.limit, |announcement| announcement.id);
    Ok(Json(Announcements { announcements: read.iter().map(AnnouncementFrame::new).collect(), next }))
}

/// `DELETE /announcements/{announcement}`
pub(super) async fn end(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(id): At<Uuid>,
) -> Result<StatusCode, Problem> {
    admin(&claims)?;
    if !rest.gateway.store.end_announcement(id, now_ms()).await? {
        return Err(Reason::UnknownAnnouncement.into());
    }
    tell(&rest.gateway);
    Ok(StatusCode::NO_CONTENT)
}

/// Has this node's connections told. The store has told the other nodes.
fn tell(gateway: &Gateway) {
    gateway.announcements.stir();
}
