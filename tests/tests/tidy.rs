//! The tree itself, measured: sizes, headers, and which crate may use which. What is over an aim is on a list with its
//! size; a size on the list may only fall, and the list has to follow it down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 600;
const AIM_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_PARAMETERS: usize = 6;

/// Files over [`AIM_FILE_LINES`].
const LONG_FILES: &[(&str, usize)] = &[
    ("tests/tests/tidy.rs", 337),
    ("core/src/model/validate.rs", 306),
    ("core/src/state/apply.rs", 456),
    ("core/tests/core/properties.rs", 314),
    ("core/tests/core/simulation.rs", 416),
    ("core/tests/core/stories.rs", 344),
    ("ctl/src/cli.rs", 349),
    ("ctl/src/cmd/service.rs", 311),
    ("ctl/src/rows.rs", 311),
    ("ctl/tests/ctl/fake.rs", 499),
    ("manager/src/raft/mod.rs", 352),
    ("proto/src/convert/spec.rs", 329),
    ("raft-store/src/log/mod.rs", 343),
    ("raft-store/src/machine.rs", 347),
    ("testcluster/src/bin/echo.rs", 415),
    ("testcluster/src/cluster.rs", 422),
    ("testcluster/src/links.rs", 412),
    ("testcluster/src/recorder.rs", 313),
    ("worker/src/config.rs", 366),
    ("worker/src/reconciler/actor.rs", 333),
    ("worker/src/reconciler/service.rs", 454),
    ("worker/src/runtime/process/mod.rs", 377),
    ("worker/src/session/dial.rs", 311),
];

/// Functions over [`MAX_FUNCTION_LINES`].
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Which crates of ours each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("raft-store", &[]),
    ("proto", &["goat-core"]),
    ("manager", &["goat-core", "goat-proto", "goat-raft-store"]),
    ("worker", &["goat-core", "goat-proto"]),
    ("ctl", &["goat-core", "goat-proto"]),
    ("testcluster", &["goat-proto"]),
];

/// What core must not know, so that its purity is a compile error and not a habit.
const NOT_IN_CORE: &[&str] = &["tokio", "tonic", "rocksdb", "bollard", "tracing", "rand", "openraft"];

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "core",
    "ctl",
    "deploy",
    "docs",
    "justfile",
    "manager",
    "proto",
    "raft-store",
    "rustfmt.toml",
    "target",
    "testcluster",
    "tests",
    "worker",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the workspace").to_owned()
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// Every file of ours with this extension: its path from the root, and its text.
fn sources(extension: &str) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    files(&root, extension, &mut found);
    let relative = |path: &Path| path.strip_prefix(&root).expect("it is below").display().to_string();
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).expect("it is text"))).collect()
}

/// Compares what was measured with the list of what is known to be too large.
fn ratchet(what: &str, measured: BTreeMap<String, usize>, known: &[(&str, usize)]) {
    let known: BTreeMap<&str, usize> = known.iter().copied().collect();
    let mut text = String::new();
    for (name, size) in &measured {
        match known.get(name.as_str()) {
            None => writeln!(text, "    (\"{name}\", {size}),  // new: split it"),
            Some(before) if size > before => writeln!(text, "    (\"{name}\", {size}),  // was {before}: split it"),
            Some(before) if size < before => {
                writeln!(text, "    (\"{name}\", {size}),  // was {before}: put the new size here")
            }
            Some(_) => Ok(()),
        }
        .expect("a string takes everything");
    }
    for name in known.keys().filter(|name| !measured.contains_key(**name)) {
        writeln!(text, "    {name}  // fits now: take it off the list").expect("a string takes everything");
    }
    assert!(text.is_empty(), "{what}:\n{text}");
}

#[test]
fn files_are_short_enough_to_be_read() {
    let lengths: Vec<(String, usize)> =
        sources("rs").into_iter().map(|(path, text)| (path, text.lines().count())).collect();
    let too_long: Vec<_> = lengths.iter().filter(|(_, lines)| *lines > MAX_FILE_LINES).collect();
    assert!(too_long.is_empty(), "over {MAX_FILE_LINES} lines: {too_long:?}");
    let long = lengths.into_iter().filter(|(_, lines)| *lines > AIM_FILE_LINES).collect();
    ratchet("files over 300 lines", long, LONG_FILES);
}

#[test]
fn files_begin_with_what_they_own() {
    let bare: Vec<_> =
        sources("rs").into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(bare.is_empty(), "no `//!` at the beginning: {bare:?}");
}

/// A function as it stands in the text, formatted as rustfmt does: it begins with `fn` and ends with a brace at the same
/// depth.
struct Function {
    name: String,
    lines: usize,
    parameters: usize,
}

fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        let is_function = ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn "]
            .iter()
            .any(|start| code.starts_with(start))
            || code.starts_with("pub(") && code.contains(") fn ")
            || code.starts_with("pub(") && code.contains(") async fn ");
        if !is_function {
            continue;
        }
        let after = &code[code.find("fn ").expect("it was just found") + 3..];
        let name = after.split(['(', '<']).next().unwrap_or_default().to_owned();
        let closing = format!("{}}}", " ".repeat(depth));
        let Some(length) = lines[at..].iter().position(|line| *line == closing) else {
            continue;
        };
        let signature: String =
            lines[at..].iter().take_while(|line| !line.trim_end().ends_with(['{', ';'])).copied().collect();
        let last = lines[at..].iter().find(|line| line.trim_end().ends_with(['{', ';'])).copied().unwrap_or_default();
        found.push(Function { lines: length + 1, parameters: parameters(&(signature + last), &name), name });
    }
    found
}

/// Commas at depth one of the first parenthesis, as people count parameters: `self` is one.
fn parameters(signature: &str, name: &str) -> usize {
    let named = signature.find(&format!("fn {name}")).unwrap_or_default();
    let Some(start) = signature[named..].find('(').map(|at| named + at) else {
        return 0;
    };
    let (mut depth, mut count, mut has_text) = (0, 0, false);
    for (at, character) in signature[start..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            '<' => depth += 1,
            // Not of an arrow.
            '>' if !signature[start..start + at].ends_with(['-', '=']) => depth -= 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return count + usize::from(has_text);
                }
            }
            ',' if depth == 1 => {
                count += 1;
                has_text = false;
            }
            character if !character.is_whitespace() && depth == 1 => has_text = true,
            _ => {}
        }
    }
    count
}

#[test]
fn functions_are_short_enough_to_be_read() {
    let mut long = BTreeMap::new();
    for (path, text) in sources("rs") {
        for function in functions(&text) {
            if function.lines > MAX_FUNCTION_LINES {
                long.insert(format!("{path}: {}", function.name), function.lines);
            }
        }
    }
    ratchet("functions over 70 lines", long, LONG_FUNCTIONS);
}

#[test]
fn functions_have_few_parameters() {
    let mut many = Vec::new();
    for (path, text) in sources("rs") {
        let over = functions(&text).into_iter().filter(|function| function.parameters > MAX_PARAMETERS);
        many.extend(over.map(|function| format!("{path}: {} has {}", function.name, function.parameters)));
    }
    assert!(many.is_empty(), "over {MAX_PARAMETERS} parameters: {many:#?}");
}

#[test]
fn the_measuring_counts_as_people_do() {
    let text = "impl A {\n    pub(crate) async fn two(\n        &self,\n        map: BTreeMap<u64, Vec<u8>>,\n    ) -> Result<(), Error> {\n        \
                a\n    }\n}\nfn none() {\n}\n";
    let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.lines, f.parameters)).collect();
    assert_eq!(found, [("two".to_owned(), 6, 2), ("none".to_owned(), 2, 0)]);
    assert_eq!(parameters("fn f(a: impl Fn(u8, u8) -> u8, (b, c): (u8, u8))", "f"), 2);
}

/// The names under `[dependencies]` and `[dev-dependencies]`.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let names = lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.map(str::to_owned).collect()
}

#[test]
fn crates_use_only_what_they_may() {
    for (name, allowed) in ARROWS {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("it has a manifest");
        let used = dependencies(&manifest, "[dependencies]");
        let ours: Vec<_> =
            used.iter().filter(|name| name.starts_with("goat-") && !allowed.contains(&name.as_str())).collect();
        assert!(ours.is_empty(), "{name} may use {allowed:?}, and not {ours:?}");
    }
    let core = std::fs::read_to_string(root().join("core/Cargo.toml")).expect("it has a manifest");
    let impure: Vec<_> =
        dependencies(&core, "[dependencies]").into_iter().filter(|name| NOT_IN_CORE.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "core must stay pure, and uses {impure:?}");
}

#[test]
fn the_top_level_holds_only_what_was_decided() {
    let output = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    // From an archive, without git, there is nothing to leave out.
    let names: BTreeSet<String> = match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.split('\0')
                .filter_map(|path| path.split('/').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        }
        _ => {
            let entries = std::fs::read_dir(root()).expect("it is there");
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
        }
    };
    let strange: Vec<_> = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "not decided on (docs/decisions): {strange:?}");
}

/// Code of a file without its tests, which are at its end.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn banned_words_stay_out() {
    let tokio_spawn = concat!("tokio::", "spawn(");
    let ignore = concat!("#[", "ignore");
    let mut found = Vec::new();
    for (path, text) in sources("rs") {
        if text.contains(ignore) {
            found.push(format!("{path}: a test that is left out"));
        }
        let is_test = path.contains("/tests/") || path.contains("/examples/");
        let code = without_tests(&text);
        if is_test {
            continue;
        }
        // The server runs on beside the task set, which is stopped before it; main hears signals.
        let may_spawn =
            path.ends_with("taskset.rs") || ["manager/src/main.rs", "manager/src/server.rs"].contains(&path.as_str());
        if code.contains(tokio_spawn) && !may_spawn {
            found.push(format!("{path}: a bare spawn; use TaskSet"));
        }
        if code.contains(".unwrap()") {
            found.push(format!("{path}: unwrap without a reason; use expect, or an error"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in sources("md") {
        let dir = root().join(&path).parent().expect("it is in a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let is_here = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            if is_here && !dir.join(target).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
