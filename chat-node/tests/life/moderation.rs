//! Rooms, roles, and what moderators can do.

use chat_node::{
    event::{FOREVER, Kind, Role, RoomKind, Standing},
    protocol::{Code, RoomReference},
};
use serde_json::json;

use crate::ground::{Ground, NOW, on_both, refused, told, user};

async fn standing(ground: &Ground, name: &str) -> Option<Standing> {
    let seats = ground.store.memberships(&[user(name)]).await.unwrap();
    seats.into_iter().find(|(_, seat)| seat.room.id == ground.room).map(|(_, seat)| seat.standing)
}

async fn roles(ground: &Ground) -> Vec<String> {
    let members = ground.store.members(ground.room, "", 10).await.unwrap();
    members.iter().map(|member| format!("{} {:?}", member.user, member.role)).collect()
}

#[tokio::test]
async fn whoever_makes_a_room_owns_it_and_hands_it_on() {
    on_both(|ground| async move {
        for name in ["bob", "carol"] {
            ground.join(name).await.unwrap();
        }
        let role = |user: &str, role: &str| json!({"type": "set_role", "user": user, "role": role});
        assert_eq!(refused(ground.ask("bob", role("bob", "owner")).await), Code::NotAllowed);
        assert_eq!(refused(ground.ask("alice", role("erin", "moderator")).await), Code::UnknownMember);
        assert_eq!(refused(ground.ask("alice", role("alice", "member")).await), Code::NotAllowed, "hand over first");
        let changed = ground.ask("alice", role("carol", "moderator")).await.unwrap();
        assert_eq!(told(&changed), ["role alice carol moderator"]);
        assert_eq!(changed.memberships[0].standing.role, Role::Moderator);
        assert_eq!(ground.ask("alice", role("carol", "moderator")).await.unwrap().events.len(), 0);
        let changed = ground.ask("alice", role("bob", "owner")).await.unwrap();
        assert_eq!(told(&changed), ["role alice bob owner", "role alice alice moderator"]);
        assert_eq!(roles(&ground).await, ["alice Moderator", "bob Owner", "carol Moderator"]);
        let changed = ground.store.leave(&user("bob"), ground.room, NOW).await.unwrap();
        assert_eq!(told(&changed), ["left bob", "role bob alice owner"], "the moderator who was there first");
        for name in ["alice", "carol"] {
            ground.store.leave(&user(name), ground.room, NOW).await.unwrap();
        }
        let changed = ground.join("dave").await.unwrap();
        assert_eq!(told(&changed), ["joined dave", "role dave dave owner"], "an empty room is whose comes first");
    })
    .await;
}

#[tokio::test]
async fn power_reaches_only_downwards() {
    on_both(|ground| async move {
        for name in ["bob", "carol", "dave"] {
            ground.join(name).await.unwrap();
        }
        for name in ["bob", "carol"] {
            ground.ask("alice", json!({"type": "set_role", "user": name, "role": "moderator"})).await.unwrap();
        }
        for action in ["kick", "ban", "mute"] {
            let act = |user: &str| json!({"type": action, "user": user});
            for other in ["alice", "bob", "carol"] {
                assert_eq!(refused(ground.ask("bob", act(other)).await), Code::NotAllowed, "{action} {other}");
            }
            assert_eq!(refused(ground.ask("dave", act("bob")).await), Code::NotAllowed);
            assert_eq!(refused(ground.ask("erin", act("bob")).await), Code::NotAMember);
        }
        let changed = ground.ask("bob", json!({"type": "kick", "user": "dave"})).await.unwrap();
        assert_eq!(told(&changed), ["kicked bob dave"]);
        assert_eq!((changed.memberships[0].member, changed.memberships[0].cause), (false, Some(Kind::Kicked)));
        assert_eq!(refused(ground.ask("bob", json!({"type": "kick", "user": "dave"})).await), Code::UnknownMember);
        ground.join("dave").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_ban_keeps_out_until_it_ends_or_is_lifted() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let ban = |seconds: Option<u64>| json!({"type": "ban", "user": "bob", "seconds": seconds});
        let changed = ground.ask("alice", ban(Some(60))).await.unwrap();
        assert_eq!((told(&changed), changed.memberships.len()), (vec!["banned alice bob".to_owned()], 1));
        assert_eq!(refused(ground.join("bob").await), Code::Banned);
        let invite = json!({"type": "invite", "user": "bob"});
        assert_eq!(refused(ground.ask("alice", invite.clone()).await), Code::Banned);
        let later = NOW + 60_000;
        let joined = ground.store.join(&user("bob"), &RoomReference::Id(ground.room), later).await.unwrap();
        assert_eq!(joined.events.len(), 1, "it has ended");
        ground.ask("alice", ban(None)).await.unwrap();
        assert_eq!(ground.ask("alice", ban(None)).await.unwrap().events.len(), 0);
        assert_eq!(
            refused(ground.store.join(&user("bob"), &RoomReference::Id(ground.room), FOREVER - 1).await),
            Code::Banned
        );
        assert_eq!(refused(ground.ask("alice", json!({"type": "ban", "user": "zoe"})).await), Code::UnknownUser);
        let unban = json!({"type": "unban", "user": "bob"});
        assert_eq!(told(&ground.ask("alice", unban.clone()).await.unwrap()), ["unbanned alice bob"]);
        assert_eq!(ground.ask("alice", unban).await.unwrap().events.len(), 0);
        assert_eq!(told(&ground.ask("alice", invite).await.unwrap()), ["invited alice bob"]);
    })
    .await;
}

#[tokio::test]
async fn the_log_tells_how_a_membership_ended() {
    on_both(|ground| async move {
        let ending = async |after| ground.store.ending("bob", ground.room, after).await.unwrap();
        let how = async |after| ending(after).await.map(|(kind, _)| kind);
        let kick = |user: &str| json!({"type": "kick", "user": user});
        for name in ["bob", "carol"] {
            ground.join(name).await.unwrap();
        }
        assert_eq!(how(0).await, None);
        ground.ask("alice", kick("carol")).await.unwrap();
        assert_eq!(how(0).await, None, "that was another one");
        ground.ask("alice", kick("bob")).await.unwrap();
        let kicked = ground.log().await.len() as i64;
        ground.say("alice", "bye").await;
        assert_eq!(ending(0).await, Some((Kind::Kicked, kicked)));
        ground.join("bob").await.unwrap();
        let joined = ground.log().await.len() as i64;
        assert_eq!(how(joined).await, None, "what was before that counts no more");
        ground.ask("alice", json!({"type": "ban", "user": "bob"})).await.unwrap();
        assert_eq!((how(joined).await, how(0).await), (Some(Kind::Banned), Some(Kind::Banned)));
        ground.ask("alice", json!({"type": "unban", "user": "bob"})).await.unwrap();
        ground.join("bob").await.unwrap();
        ground.store.leave(&user("bob"), ground.room, NOW).await.unwrap();
        assert_eq!(how(0).await, Some(Kind::Left), "the last time it was bob");
        assert_eq!(ground.store.ending("bob", uuid::Uuid::nil(), 0).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_mute_survives_leaving_and_coming_back() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let target = ground.say("bob", "words").await;
        let changed = ground.ask("alice", json!({"type": "mute", "user": "bob", "seconds": 60})).await.unwrap();
        assert_eq!(changed.memberships[0].standing.muted_until, NOW + 60_000);
        for command in ["edit", "react"] {
            let command = json!({"type": command, "target": target, "text": "x", "reaction": "x"});
            assert_eq!(refused(ground.ask("bob", command).await), Code::Muted);
        }
        ground.store.leave(&user("bob"), ground.room, NOW).await.unwrap();
        let joined = ground.join("bob").await.unwrap();
        assert_eq!(joined.memberships[0].standing.muted_until, NOW + 60_000);
        assert_eq!(standing(&ground, "bob").await.unwrap().muted_until, NOW + 60_000);
        ground.ask("bob", json!({"type": "delete", "target": target})).await.unwrap();
        let unmute = json!({"type": "unmute", "user": "bob"});
        assert_eq!(told(&ground.ask("alice", unmute.clone()).await.unwrap()), ["unmuted alice bob"]);
        assert_eq!(ground.ask("alice", unmute).await.unwrap().events.len(), 0);
        assert_eq!(standing(&ground, "bob").await, Some(Standing::default()));
    })
    .await;
}

#[tokio::test]
async fn whoever_comes_to_own_a_room_is_muted_there_no_more() {
    on_both(|ground| async move {
        let mute = |name: &str| json!({"type": "mute", "user": name});
        for name in ["bob", "carol"] {
            ground.join(name).await.unwrap();
            ground.ask("alice", mute(name)).await.unwrap();
        }
        ground.ask("alice", json!({"type": "set_role", "user": "bob", "role": "owner"})).await.unwrap();
        let owns = Some(Standing { role: Role::Owner, muted_until: 0 });
        assert_eq!(standing(&ground, "bob").await, owns, "given");
        for name in ["alice", "bob"] {
            ground.store.leave(&user(name), ground.room, NOW).await.unwrap();
        }
        assert_eq!(standing(&ground, "carol").await, owns, "inherited");
        ground.store.leave(&user("carol"), ground.room, NOW).await.unwrap();
        ground.join("carol").await.unwrap();
        assert_eq!(standing(&ground, "carol").await, owns, "found empty");
        ground.join("dave").await.unwrap();
        ground.store.leave(&user("carol"), ground.room, NOW).await.unwrap();
        ground.join("carol").await.unwrap();
        assert_eq!(standing(&ground, "carol").await, Some(Standing::default()), "lifted for good");
    })
    .await;
}

#[tokio::test]
async fn a_private_room_exists_only_for_whom_it_was_opened() {
    on_both(|ground| async move {
        let made = ground.store.create_room(&user("alice"), "lobby", RoomKind::Private, NOW).await.unwrap();
        let ground = Ground { room: made.room.id, ..ground };
        assert_eq!((made.room.name.as_deref(), made.room.kind), (Some("lobby"), RoomKind::Private), "names may repeat");
        assert_eq!(refused(ground.join("bob").await), Code::UnknownRoom);
        assert_eq!(refused(ground.store.leave(&user("bob"), ground.room, NOW).await), Code::UnknownRoom);
        let invite = |name: &str| json!({"type": "invite", "user": name});
        assert_eq!(refused(ground.ask("bob", invite("bob")).await), Code::UnknownRoom);
        assert_eq!(refused(ground.ask("alice", invite("zoe")).await), Code::UnknownUser);
        let changed = ground.ask("alice", invite("bob")).await.unwrap();
        assert_eq!(told(&changed), ["invited alice bob"]);
        assert_eq!((&*changed.memberships[0].user, changed.memberships[0].member), ("bob", true));
        assert_eq!(ground.ask("alice", invite("bob")).await.unwrap().events.len(), 0);
        assert_eq!(refused(ground.ask("bob", invite("carol")).await), Code::NotAllowed);
        for name in ["carol", "dave"] {
            ground.ask("alice", invite(name)).await.unwrap();
        }
        assert_eq!(refused(ground.ask("alice", invite("erin")).await), Code::RoomFull);
        let seats = ground.store.arrive("bob", None, &[], NOW).await.unwrap().rooms;
        assert_eq!(seats.iter().map(|seat| seat.room.name.as_deref().unwrap()).collect::<Vec<_>>(), ["lobby"]);
    })
    .await;
}

#[tokio::test]
async fn a_topic_is_told_and_kept() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let topic = |topic: &str| json!({"type": "set_topic", "topic": topic});
        assert_eq!(refused(ground.ask("bob", topic("mine")).await), Code::NotAllowed);
        for (text, events) in [(" news ", 1), ("news", 0), ("", 1)] {
            assert_eq!(ground.ask("alice", topic(text)).await.unwrap().events.len(), events, "{text:?}");
            let seats = ground.store.arrive("alice", None, &[], NOW).await.unwrap().rooms;
            assert_eq!(seats[0].room.topic.as_deref().unwrap_or_default(), text.trim());
        }
        let direct = ground.store.direct(&user("alice"), &user("bob"), NOW).await.unwrap().room.id;
        let direct = Ground { room: direct, ..ground };
        for command in [topic("us"), json!({"type": "invite", "user": "carol"}), json!({"type": "kick", "user": "bob"})]
        {
            assert_eq!(refused(direct.ask("alice", command).await), Code::NotAllowed, "the two are equals");
        }
        assert_eq!(refused(direct.store.leave(&user("bob"), direct.room, NOW).await), Code::NotAllowed);
    })
    .await;
}
