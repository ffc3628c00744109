//! The configuration: any file gives a configuration that can be written and read back, or a reason.

use crds::NodeConfig;
use proptest::prelude::*;

use crate::damage::damaged_text;

fn corpus() -> Vec<&'static str> {
    vec![
        include_str!("corpus/embedded.yaml"),
        include_str!("corpus/bound.yaml"),
        include_str!("corpus/limits.yaml"),
        "{}",
        "",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_damaged_file_is_told_or_read_back_as_it_is(text in damaged_text(corpus())) {
        match NodeConfig::from_yaml(&text) {
            Ok(config) => {
                let written = config.to_yaml().unwrap();
                prop_assert_eq!(NodeConfig::from_yaml(&written).unwrap(), config);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn the_corpus_itself_is_understood() {
    for text in corpus() {
        NodeConfig::from_yaml(text).unwrap();
    }
}
