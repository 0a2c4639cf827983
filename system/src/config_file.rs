//! Config files: reads one, and says what to do where that fails.
//!
//! A documented file names every option: `#key = value` (no space after `#`) where that is the default or, after the word
//! `Example:` in the comment above it, where it is none. [`Documented::verify`] holds a program's file to that.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file that is none for this program; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot read the config file {path}: {source}; name another with --config, or leave it out and give options as flags"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("config file {path}: {source}mend that line, or take it out")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

/// Reads a file of options. Unknown keys are errors where `T` says so.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// A documented file, taken apart.
#[derive(Debug, Default)]
pub struct Documented {
    /// With every option, also those that are commented out.
    pub whole: String,
    /// Without examples: what a program does that is told nothing.
    pub defaults: String,
    /// Options that no comment says anything about.
    pub unexplained: BTreeSet<String>,
}

impl Documented {
    pub fn new(text: &str) -> Self {
        let mut file = Self::default();
        let (mut is_explained, mut is_example) = (false, false);
        for line in text.lines() {
            let commented = line.strip_prefix('#');
            let option = commented.unwrap_or(line);
            if option.is_empty() {
                (is_explained, is_example) = (false, false);
            } else if commented.is_some() && option.starts_with(' ') {
                (is_explained, is_example) = (true, is_example || option.contains("Example:"));
            } else {
                file.whole.push_str(&format!("{option}\n"));
                if !is_example {
                    file.defaults.push_str(&format!("{option}\n"));
                }
                if !is_explained {
                    file.unexplained.insert(option.to_owned());
                }
            }
        }
        file
    }

    /// The options that it names.
    pub fn keys(&self) -> BTreeSet<String> {
        let table: toml::Table = self.whole.parse().unwrap_or_else(|error| panic!("{error}{}", self.whole));
        table.keys().cloned().collect()
    }

    /// For a program's test: its file at `path` names every option, explains it, and is true about defaults; as it is
    /// installed, it says no more than `required`.
    ///
    /// # Panics
    /// Where one of that is not so.
    pub fn verify<Options, Config, Error>(
        path: &Path,
        required: &str,
        into_config: impl Fn(Options) -> Result<Config, Error>,
    ) where
        Options: clap::Args + DeserializeOwned,
        Config: Debug,
        Error: Display,
    {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = Self::new(&text);
        let command = Options::augment_args(clap::Command::new("options"));
        let options: BTreeSet<_> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
        assert_eq!(file.keys(), options, "the file and the program's options differ");
        assert_eq!(file.unexplained, BTreeSet::new(), "options without a word about them");
        let config = |text: &str| {
            let options = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
            into_config(options).map_or_else(|error| panic!("{error}"), |config| format!("{config:#?}"))
        };
        config(&file.whole);
        assert_eq!(config(&file.defaults), config(required), "its defaults are not the program's");
        assert_eq!(config(&text), config(required), "as it is installed, it changes something");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_examples_are_told_apart() {
        let file = Documented::new("# A file.\n\n# One.\n#one = 1\n\n# Two. Example:\n#two = 2\n\nthree = 3\n");
        assert_eq!(file.whole, "one = 1\ntwo = 2\nthree = 3\n");
        assert_eq!(file.defaults, "one = 1\nthree = 3\n");
        assert_eq!(file.unexplained, ["three = 3".to_owned()].into());
        assert_eq!(file.keys(), ["one", "two", "three"].map(str::to_owned).into());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Options {
            #[allow(dead_code)]
            port: Option<u16>,
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.toml");
        let said = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read::<Options>(&path).expect_err("it is wrong").to_string().replace(&path.display().to_string(), "FILE")
        };
        let unknown = said("\nprot = 1\n");
        assert!(unknown.starts_with("config file FILE: TOML parse error at line 2, column 1\n"), "{unknown}");
        assert!(
            unknown.ends_with("unknown field `prot`, expected `port`\nmend that line, or take it out"),
            "{unknown}"
        );
        let kind = said("port = \"x\"\n");
        assert!(kind.contains("invalid type: string \"x\", expected u16\nmend that line"), "{kind}");
        let missing = read::<Options>(Path::new("/nowhere/x.toml")).expect_err("it is missing").to_string();
        assert!(missing.starts_with("cannot read the config file /nowhere/x.toml: No such file"), "{missing}");
        assert!(
            missing.ends_with("name another with --config, or leave it out and give options as flags"),
            "{missing}"
        );
    }
}
