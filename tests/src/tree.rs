//! The files of the project: what git knows, and what it would be told of. Reads, and judges nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of ours.
#[derive(Debug)]
pub struct Source {
    /// From the root, with `/` between its parts.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Whether all of it is there for tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// What runs in production.
    pub fn code(&self) -> &str {
        if self.is_test() { "" } else { self.halves().0 }
    }

    /// What only tests run.
    pub fn tests(&self) -> &str {
        if self.is_test() { &self.text } else { self.halves().1 }
    }

    /// A file's own tests are at its end.
    fn halves(&self) -> (&str, &str) {
        let at = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text.split_at(at)
    }
}

/// Where the workspace begins.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the workspace").to_owned()
}

/// Every file's path from the root, sorted.
pub fn paths() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(listed) if listed.status.success() => {
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
        }
        // From an archive, without git, everything there is ours but what was built.
        _ => walk(&root(), ""),
    };
    // What was deleted, and the deletion not yet committed.
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    paths
}

fn walk(dir: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the tree can be read") {
        let path = entry.expect("the tree can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if !path.is_dir() {
            found.push(format!("{prefix}{name}"));
        } else if name != "target" && name != ".git" {
            found.extend(walk(&path, &format!("{prefix}{name}/")));
        }
    }
    found
}

/// Every file that is text and whose path ends so.
pub fn sources(end: &str) -> Vec<Source> {
    let paths = paths().into_iter().filter(|path| path.ends_with(end));
    paths
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).ok()?;
            Some(Source { path, text })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_own_tests_are_told_from_its_code() {
        let text = "#[cfg(test)]\nuse a;\nfn code() {}\n#[cfg(test)]\nmod tests {\n}\n".to_owned();
        let source = Source { path: "core/src/a.rs".into(), text: text.clone() };
        assert!(source.code().contains("fn code") && !source.code().contains("mod tests"));
        assert!(source.tests().contains("mod tests") && !source.tests().contains("fn code"));
        let source = Source { path: "core/tests/core/a.rs".into(), text: text.clone() };
        assert_eq!((source.code(), source.tests()), ("", text.as_str()));
    }

    #[test]
    fn the_tree_is_found_with_and_without_git() {
        let own = "tests/src/tree.rs".to_owned();
        assert!(paths().contains(&own));
        let walked = walk(&root(), "");
        assert!(walked.contains(&own) && !walked.iter().any(|path| path.starts_with("target/")));
    }
}
