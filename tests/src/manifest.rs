//! What a `Cargo.toml` depends on, in all the ways that can be written. Line by line, as cargo's own files are written.

use std::collections::BTreeSet;

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// The crates under any table of dependencies, those for one platform included, by the names that registries know.
pub fn dependencies(manifest: &str) -> BTreeSet<String> {
    let (mut found, mut is_list, mut is_one) = (BTreeSet::new(), false, false);
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let mut parts = header.rsplit('.');
            let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            is_list = TABLES.contains(&last);
            // `[dependencies.NAME]` holds one.
            is_one = TABLES.contains(&before);
            if is_one {
                found.insert(last.trim_matches('"').to_owned());
            }
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = key.split('.').next().unwrap_or_default().trim().trim_matches('"');
        if is_list && key.starts_with(char::is_alphanumeric) {
            found.insert(key.to_owned());
        }
        // Under another name: `a = { package = "b" }`, or `package = "b"` in a table of one.
        let renamed = if is_one && key == "package" { Some(value) } else { value.split("package").nth(1) };
        if (is_list || is_one)
            && let Some(package) = renamed.and_then(|rest| rest.split('"').nth(1))
        {
            found.insert(package.to_owned());
        }
    }
    found
}

/// The members of the workspace.
pub fn members(manifest: &str) -> BTreeSet<String> {
    let list = manifest.split("members").nth(1).and_then(|rest| rest.split('[').nth(1));
    let list = list.and_then(|rest| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_however_they_are_written() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\n# no\na.workspace = true\nb = \"1\"\nc = { package = \"d\" }\n\
                        [dev-dependencies]\ne = \"1\"\n[dependencies.f]\npackage = \"i\"\n[target.'cfg(unix)'.dependencies]\n\
                        g = \"1\"\n[features]\nh = []\n";
        let found = dependencies(manifest);
        for name in ["a", "b", "c", "d", "e", "f", "g", "i"] {
            assert!(found.contains(name), "{name} in {found:?}");
        }
        for name in ["name", "h", "no", "#", "package"] {
            assert!(!found.contains(name), "{name} in {found:?}");
        }
    }

    #[test]
    fn members_are_what_the_list_names() {
        assert_eq!(members("[workspace]\nmembers = [\"a\", \"b\"]\n"), ["a", "b"].map(str::to_owned).into());
    }
}
