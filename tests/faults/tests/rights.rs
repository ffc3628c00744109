//! The operator asks for nothing that it has no right to, in any scenario.

use std::collections::BTreeSet;

use faults::{api::call::Verb, api::kinds, run::run, scenario};
use operator::rights::is_granted;

#[test]
fn every_call_is_within_the_table_of_rights() {
    let mut asked = BTreeSet::new();
    for scenario in scenario::all() {
        for made in run(&scenario, &[]).made {
            let status = if made.name.ends_with("/status") { "/status" } else { "" };
            let verbs: &[&str] = match made.verb {
                Verb::Get => &["get"],
                Verb::List => &["list"],
                Verb::Watch => &["watch"],
                Verb::Create => &["create"],
                Verb::Replace => &["update"],
                // An apply also makes what is not there; a status is of something that is.
                Verb::Apply if status.is_empty() => &["patch", "create"],
                Verb::Apply | Verb::Merge => &["patch"],
                Verb::Delete => &["delete"],
            };
            let group = kinds::of(made.plural).group;
            asked.extend(verbs.iter().map(|verb| (group, format!("{}{status}", made.plural), *verb)));
        }
    }
    println!("{} kinds of calls", asked.len());
    let beyond: Vec<_> = asked.iter().filter(|(group, resource, verb)| !is_granted(group, resource, verb)).collect();
    assert!(beyond.is_empty(), "not in operator/src/rights.rs: {beyond:?}");
    assert!(asked.len() >= 30, "only {} kinds of calls were seen", asked.len());
}
