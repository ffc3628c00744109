//! The directory of public rooms.

use chat_node::event::RoomKind;

use crate::ground::{NOW, on_both, user};

#[tokio::test]
async fn the_directory_is_in_the_order_of_bytes_and_a_prefix_is_exact() {
    on_both(async |ground| {
        let store = &ground.store;
        for (owner, name) in
            ["a_b", "a%b", "Ab", "aB", "ab", "abc", "ä", "äb", "b", "ab\u{10fffd}"].into_iter().enumerate()
        {
            store.create_room(&user(&owner.to_string()), name, RoomKind::Public, NOW).await.unwrap();
        }
        store.create_room(&user("z"), "abd", RoomKind::Private, NOW).await.unwrap();
        let names = async |prefix: &str, after: &str, limit: usize| -> Vec<String> {
            let listed = store.directory(prefix, after, limit).await.unwrap();
            listed.into_iter().map(|listed| listed.name).collect()
        };
        let all = ["Ab", "a%b", "aB", "a_b", "ab", "abc", "ab\u{10fffd}", "b", "lobby", "ä", "äb"];
        assert_eq!(names("", "", 20).await, all);
        assert_eq!(names("ab", "", 20).await, ["ab", "abc", "ab\u{10fffd}"]);
        assert_eq!([names("ab", "ab", 1).await, names("a_", "", 20).await], [["abc"], ["a_b"]], "no pattern");
        assert_eq!(names("ä", "", 20).await, ["ä", "äb"]);
    })
    .await;
}
