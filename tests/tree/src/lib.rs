//! The source tree as text: its files, their code without comments, and the words in it.
//!
//! It reads and judges nothing; the tests say what must hold. What it does not understand of Rust (a comment mark within a
//! string, say) makes it see less code, never other code.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders that hold no source.
const NO_SOURCE: [&str; 2] = ["target", ".git"];

/// The root of the tree, from any folder of it.
///
/// It is looked for while running: checkouts that share a target folder also share what was compiled, and with it any path in it.
///
/// # Panics
/// Outside the tree.
pub fn root() -> PathBuf {
    let here = std::env::current_dir().expect("the current folder is there");
    let root = here.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.unwrap_or_else(|| panic!("{} is not in the source tree", here.display())).to_owned()
}

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// Reads one file.
    ///
    /// # Panics
    /// When it is not there or no text: the test that asked for it cannot go on.
    pub fn read(path: &str) -> File {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        File { path: path.to_owned(), text }
    }

    /// The code, without what stands behind `//`.
    pub fn code(&self) -> String {
        let lines = self.text.lines().map(|line| match line.find("//") {
            // A URL is no comment.
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether the code names something: `word` stands there, and is not a part of a longer word.
    pub fn names(&self, word: &str) -> bool {
        has_word(&self.code(), word)
    }
}

/// Whether `word` stands in `text`, and is not a part of a longer word.
pub fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

/// The text files below `folder` (a path from the root, or empty for all) whose names end with `ending`.
///
/// # Panics
/// When the folder is not there.
pub fn files(folder: &str, ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    let root = root();
    walk(&root, &root.join(folder), ending, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path, ending: &str, found: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !NO_SOURCE.contains(&name.as_str()) {
            walk(root, &path, ending, found);
        } else if name.ends_with(ending) {
            // What is no text, such as an archive, has nothing to be read.
            if let (Ok(text), Ok(path)) = (fs::read_to_string(&path), path.strip_prefix(root)) {
                found.push(File { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "a.rs".into(), text: text.into() }
    }

    #[test]
    fn a_word_is_named_in_code_and_not_in_comments_or_longer_words() {
        assert!(file("use sqlx::Pool;").names("sqlx"));
        assert!(file("let url = \"http://sqlx\";").names("sqlx"));
        assert!(!file("// sqlx is known elsewhere\nlet sqlx_like = 1;").names("sqlx"));
        assert!(!file("HttpClient::new()").names("Client"));
    }
}
