//! `tests/deps`: its messages if there is no Rust toolchain, or an old one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The script's message for these versions of cargo and rustc; `None` if it finds nothing missing.
fn said(dir: &Path, cargo: &str, rustc: &str) -> Option<String> {
    for (name, script) in [("cargo", cargo), ("rustc", rustc)] {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
    let script = goat_tests::tree::root().join("tests/deps");
    // Neither the machine's own toolchain nor the directories of system programs.
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let output = Command::new(script).arg("build").env("PATH", path).env("HOME", dir).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    (!said.is_empty()).then_some(said)
}

#[test]
fn a_toolchain_that_is_too_old_is_named_before_anything_is_built() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = |cargo: &str, rustc: &str| said(dir.path(), cargo, rustc);
    let old = said("echo cargo 1.65.0", "echo rustc 1.63.0").expect("too old");
    assert!(
        old.contains("cargo is version 1.65.0") && old.contains("1.88 or newer") && old.contains("rustup"),
        "{old}"
    );
    let mixed = said("echo 'cargo 1.90.0 (840b83a10 2025-07-30)'", "echo rustc 1.85.0").expect("too old");
    assert!(mixed.contains("rustc is version 1.85.0"), "{mixed}");
    let none = said("echo error: no default is configured >&2; exit 1", "true").expect("unusable");
    assert!(none.contains("`cargo --version` fails (error: no default is configured)"), "{none}");
    for version in ["1.88.0", "1.88.1", "1.100.0", "2.0.0", "1.97.0-nightly"] {
        let newer = said(&format!("echo cargo {version}"), &format!("echo rustc {version}"));
        assert_eq!(newer, None, "{version}");
    }
}
