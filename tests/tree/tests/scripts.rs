//! Scripts leave nothing behind, however they end.

use tree::{File, files};

/// The scripts behind the targets of `make`.
fn scripts() -> Vec<File> {
    files("tests/setup", "").into_iter().filter(|file| file.text.starts_with("#!/bin/sh\n")).collect()
}

/// A shell that a signal ends, dash for one, does not do what was set for its exit.
#[test]
fn what_a_script_does_on_exit_it_does_on_a_signal_too() {
    let ends_by_exit =
        |text: &str| ["\ntrap 'exit 130' INT\n", "\ntrap 'exit 143' TERM\n"].iter().all(|trap| text.contains(trap));
    assert!(ends_by_exit(&unindented(&File::read("tests/setup/lib.sh").text)));
    let (mut cleans_up, mut guilty) = (0, Vec::new());
    for File { path, text } in scripts() {
        let text = unindented(&text);
        let sets_traps = text.contains("\n. tests/setup/lib.sh\n") || ends_by_exit(&text);
        if text.lines().any(|line| line.starts_with("trap ") && line.ends_with(" EXIT")) {
            cleans_up += 1;
            guilty.extend((!sets_traps).then_some(path));
        }
    }
    assert!(cleans_up > 5, "only {cleans_up} scripts do something on exit: are they where they are looked for?");
    assert!(guilty.is_empty(), "killed by a signal, they leave something behind: {guilty:?}");
}

fn unindented(text: &str) -> String {
    text.lines().map(|line| format!("\n{}", line.trim())).collect::<String>() + "\n"
}
