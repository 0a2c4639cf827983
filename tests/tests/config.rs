//! What programs say of a config file that is wrong.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use std::process::Command;

#[test]
fn a_bad_file_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["goat-manager", "goat-worker"] {
        let path = dir.path().join(name).with_extension("toml");
        let refused = || {
            let output = Command::new(world::program(name)).args(["run", "--config"]).arg(&path).output();
            let output = output.expect("the program starts");
            let text = String::from_utf8(output.stderr).expect("it is text");
            assert_eq!(output.status.code(), Some(2), "{text}");
            text
        };
        let text = refused();
        assert!(text.contains("cannot read the config file") && text.contains("name another with --config"), "{text}");
        let wrong = [("listne = 1", "unknown field `listne`"), ("log_level = 1", "invalid type: integer `1`")];
        for (line, problem) in wrong {
            std::fs::write(&path, format!("# first\n{line}\n")).expect("written");
            let text = refused();
            assert!(text.contains("line 2") && text.contains(problem) && text.contains("mend that line"), "{text}");
        }
        std::fs::write(&path, "log_level = \"info\"\n").expect("written");
        let text = refused();
        let missing = "data_dir is missing: set it in the config file, with --data-dir or with GOAT_";
        assert!(text.contains(missing), "{text}");
    }
}
