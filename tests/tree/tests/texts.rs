//! Texts lead where they say, and nothing in the tree is secret.

use std::collections::BTreeSet;

use tree::{File, files, root};

/// What a private key begins with; put together so that this file is none.
const PRIVATE_KEY: [&str; 2] = ["PRIVATE", "KEY-----"];
/// Passwords that nobody could take for real ones.
const EXAMPLES: [&str; 8] = ["password", "secret", "p", "b", "guest", "example", "chat", "pw"];

/// The targets of the links in a Markdown text: `](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

#[test]
fn links_between_texts_lead_somewhere() {
    let mut broken = Vec::new();
    for file in files("", ".md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&file.text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&file.path) } else { root().join(folder).join(path) };
            if !target.exists() {
                broken.push(format!("{}: {link} is not there", file.path));
            } else if !anchor.is_empty()
                && !anchors(&std::fs::read_to_string(&target).unwrap_or_default()).contains(anchor)
            {
                broken.push(format!("{}: {link} has no such heading", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The anchors of headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn make_targets_that_texts_name_are_there() {
    let makefile = File::read("Makefile").text;
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .filter(|target| !target.is_empty() && target.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    assert!(targets.contains("test") && targets.contains("run"), "the Makefile has {targets:?}");
    let mut unknown = Vec::new();
    for file in files("", ".md") {
        for named in file.text.split("`make ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
            if !targets.contains(named) {
                unknown.push(format!("{} names `make {named}`", file.path));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn files_that_texts_name_are_there() {
    let tops = ["crds/", "operator/", "chat-node/", "config/", "helm/", "tests/", "docs/"];
    let mut gone = Vec::new();
    for file in files("docs", ".md").into_iter().chain(["README.md", "CONTRIBUTING.md"].map(File::read)) {
        for named in file.text.split('`').skip(1).step_by(2) {
            let is_path = tops.iter().any(|top| named.starts_with(top)) && !named.contains([' ', '*', '<', '{']);
            if is_path && !root().join(named).exists() {
                gone.push(format!("{} names {named}", file.path));
            }
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn nothing_in_the_tree_is_secret() {
    let mut found = Vec::new();
    for file in files("", "") {
        if file.text.contains(&PRIVATE_KEY.join(" ")) {
            found.push(format!("{} has a private key", file.path));
        }
        for authority in file.text.split("://").skip(1).filter_map(authority) {
            if let Some(password) = password(authority).filter(|password| !EXAMPLES.contains(password)) {
                found.push(format!("{} has a URL with the password {password:?}", file.path));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// What stands between `://` and the host, with the `@`; `None` when the URL names nobody.
fn authority(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '`' | '<' | ')'))?;
    rest[..end].rfind('@').map(|at| &rest[..at])
}

/// The password of `user:password`, unless it is to be filled in.
fn password(authority: &str) -> Option<&str> {
    let (_, password) = authority.split_once(':')?;
    (!password.contains(['{', '$', '%'])).then_some(password)
}

#[test]
fn a_password_in_a_url_is_found() {
    let found = |text: &'static str| text.split("://").nth(1).and_then(authority).and_then(password);
    assert_eq!(found("amqp://chat:example@mq:5672/ "), Some("example"));
    assert_eq!(found("amqp://{user}:{password}@mq/ "), None);
    assert_eq!(found("https://example.org/a@b "), None);
}
