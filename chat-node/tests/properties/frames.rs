//! The decoder of frames: any text gives a frame that keeps the protocol's rules, or a refusal that can be told.

use chat_node::protocol::{ClientFrame, HistoryRange, decode};
use proptest::prelude::*;
use serde_json::Value;

use crate::damage::damaged_text;

/// Frames of every type, and such as once made trouble somewhere.
pub(crate) fn corpus() -> Vec<&'static str> {
    include_str!("corpus/frames.txt").lines().collect()
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let json: Option<Value> = serde_json::from_str(text).ok();
    match decode(text) {
        Ok(frame) => {
            prop_assert!(json.is_some_and(|json| json.is_object()), "only a JSON object is a frame");
            match frame {
                ClientFrame::Send { n, .. } => prop_assert!(n >= 1),
                ClientFrame::History { range: HistoryRange { before, after }, .. } => {
                    prop_assert!(before.is_none() || after.is_none());
                }
                _ => {}
            }
        }
        Err(bad) => {
            prop_assert!((1..=200).contains(&bad.reason.len()), "{:?} is no sentence to send", bad.reason);
            // A number that is too large for any type is told with the frame's id, and is no JSON value for this check to look into.
            if let (Some(id), Some(json)) = (bad.id, &json) {
                prop_assert_eq!(&json["id"], &Value::from(id));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_frames_are_told_or_keep_the_rules(text in damaged_text(corpus())) {
        check(&text)?;
    }

    #[test]
    fn any_text_is_told_or_keeps_the_rules(text in ".{0,200}") {
        check(&text)?;
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for depth in [200, 100_000] {
        let text = format!(r#"{{"type":"ping","deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(decode(&text).is_err());
    }
}
