//! The documented config file of the package: whole, readable, and true about defaults.

use goat_system::config_file::{Documented, keys_of, read};
use goat_worker::config::Options;

fn file() -> Documented {
    Documented::new(include_str!("../../deploy/config/worker.toml"))
}

#[test]
fn every_option_is_in_the_file_and_explained() {
    let file = file();
    assert_eq!(file.keys(), keys_of::<Options>(), "deploy/config/worker.toml and Options differ");
    assert_eq!(file.unexplained, [].into(), "options without a word about them");
}

#[test]
fn the_file_with_every_line_in_force_is_a_good_one() {
    let options: Options = toml::from_str(&file().whole).unwrap_or_else(|error| panic!("{error}"));
    options.into_config().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_defaults_in_the_file_are_the_programs() {
    let config = |text: &str| toml::from_str::<Options>(text).expect("it parses").into_config().expect("it is right");
    let (written, own) = (config(&file().defaults), config("data_dir = \"/var/lib/goat/worker\""));
    assert_eq!(format!("{written:#?}"), format!("{own:#?}"));
    // As it is installed, it changes nothing but the directory.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/worker.toml");
    let installed: Options = read(path.as_ref()).expect("it is there");
    assert_eq!(format!("{:#?}", installed.into_config().expect("it is right")), format!("{own:#?}"));
}

#[test]
fn a_bad_file_is_told_with_what_to_do() {
    let said = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_goat-worker")).args(arguments).output();
        let output = output.expect("the program starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("it is text"))
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("worker.toml");
    let file = path.to_str().expect("it is text");
    let (code, text) = said(&["run", "--config", file]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("cannot read the config file") && text.contains("name another with --config"), "{text}");
    for (line, problem) in [("listne = 1", "unknown field `listne`"), ("log_level = 1", "invalid type: integer `1`")] {
        std::fs::write(&path, format!("# first\n{line}\n")).expect("written");
        let (code, text) = said(&["run", "--config", file]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("line 2") && text.contains(problem) && text.contains("mend that line"), "{text}");
    }
    std::fs::write(&path, "log_level = \"info\"\n").expect("written");
    let (code, text) = said(&["run", "--config", file]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("data_dir is missing: set it in the config file, with --data-dir or with GOAT_"), "{text}");
}
