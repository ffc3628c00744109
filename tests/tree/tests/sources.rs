//! Every source file is used, says what it owns, and is short enough to be read at one sitting.

use std::collections::BTreeSet;

use tree::{File, files, has_word, root};

/// Lines of a source file.
const LINES_MAX: usize = 480;

/// A file that `mod` makes a part of the one at `path`: beside it, or in the folder of its name.
fn parts(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_root = matches!(name, "mod.rs" | "lib.rs" | "main.rs") || is_crate_root(path);
    let folder = if is_root { folder.to_owned() } else { format!("{folder}/{}", name.trim_end_matches(".rs")) };
    let mut parts = Vec::new();
    for line in text.lines().map(str::trim) {
        let declared =
            line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        if let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            parts.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
        }
    }
    parts
}

/// Whether Cargo compiles the file by its place.
fn is_crate_root(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else { return false };
    let by_name = matches!(name, "lib.rs" | "main.rs") && folder.ends_with("src") || name == "build.rs";
    let in_folder = ["/src/bin", "/tests", "/benches", "/examples"].iter().any(|place| folder.ends_with(place));
    let has_manifest =
        || root().join(folder.rsplit_once('/').map_or("", |(parent, _)| parent)).join("Cargo.toml").is_file();
    let of_tests = || {
        let parent = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
        name == "main.rs" && (parent.ends_with("/tests") || parent.ends_with("/src/bin"))
    };
    by_name || (in_folder && (folder.ends_with("/src/bin") || has_manifest())) || of_tests()
}

#[test]
fn every_source_file_is_named_by_a_mod() {
    let all = files("", ".rs");
    let mut reached: BTreeSet<String> =
        all.iter().map(|file| file.path.clone()).filter(|path| is_crate_root(path)).collect();
    loop {
        let more: BTreeSet<String> = all
            .iter()
            .filter(|file| reached.contains(&file.path))
            .flat_map(|file| parts(&file.path, &file.code()))
            .filter(|path| !reached.contains(path) && all.iter().any(|file| file.path == *path))
            .collect();
        if more.is_empty() {
            break;
        }
        reached.extend(more);
    }
    let unused: Vec<&String> = all.iter().map(|file| &file.path).filter(|path| !reached.contains(*path)).collect();
    assert!(unused.is_empty(), "no mod names {unused:#?}");
    assert!(reached.len() > 50, "only {} files are reached: is the tree where it is looked for?", reached.len());
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    let silent = files("", ".rs").into_iter().filter(|file| !file.text.starts_with("//! "));
    let silent: Vec<String> = silent.map(|file| file.path).collect();
    assert!(silent.is_empty(), "begin with //! and what the file owns: {silent:#?}");
}

#[test]
fn no_source_file_is_too_long_to_be_read() {
    let lines = |file: &File| file.text.lines().count();
    let long = files("", ".rs").into_iter().filter(|file| lines(file) > LINES_MAX);
    let long: Vec<String> = long.map(|file| format!("{} has {} lines", file.path, lines(&file))).collect();
    assert!(long.is_empty(), "at most {LINES_MAX}: {long:#?}");
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let here = "tests/tree/tests/sources.rs";
    let marked = |file: &File| {
        let mark = marks.iter().find(|mark| has_word(&file.text, mark))?;
        Some(format!("{} has a {mark}", file.path))
    };
    let sources = [".rs", ".go", ".sh", ".yaml", ".yml", ".toml", ".tpl"].iter().flat_map(|ending| files("", ending));
    let marked: Vec<String> = sources.filter(|file| file.path != here).filter_map(|file| marked(&file)).collect();
    assert!(marked.is_empty(), "{marked:#?}");
}
