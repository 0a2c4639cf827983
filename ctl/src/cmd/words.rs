//! The words of `run`: its options end where the image begins, and what looks like an option beyond is the program's.

use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::exit::{Failure, say};

/// Refuses a first word that is a mistyped option, and says of later ones that look like options of goatctl whose they are.
pub fn check(words: &[String]) -> Result<(), Failure> {
    let cli = Cli::command();
    let options = options_of_run(&cli);
    if let Some(first) = words.first().filter(|first| first.starts_with('-')) {
        let typed = first.split('=').next().unwrap_or_default();
        let message = format!("unexpected argument '{typed}' before the image");
        let hint = match similar(typed, &options) {
            Some(option) => format!("a similar option exists: --{option}"),
            None => "`goatctl run --help` lists the options".to_owned(),
        };
        return Err(Failure::usage(message).with_hint(hint));
    }
    let is_separated = words.get(1).is_some_and(|word| word == "--");
    for word in words.iter().skip(1).take_while(|_| !is_separated) {
        let name = word.strip_prefix("--").map(|word| word.split('=').next().unwrap_or_default());
        if let Some(name) = name.filter(|name| options.iter().any(|option| option == name)) {
            say(&format!(
                "note: --{name} comes after the image and goes to the program; options of goatctl go before the image"
            ));
        }
    }
    Ok(())
}

/// Long names of all options of `run`.
fn options_of_run(cli: &Command) -> Vec<String> {
    let run = cli.find_subcommand("run").into_iter().flat_map(Command::get_arguments);
    let global = cli.get_arguments().filter(|argument| argument.is_global_set());
    run.chain(global).filter_map(|argument| argument.get_long()).map(ToOwned::to_owned).collect()
}

/// The option that was most likely meant: at most two letters are wrong, or one is the beginning of the other.
fn similar<'a>(typed: &str, options: &'a [String]) -> Option<&'a str> {
    let typed = typed.trim_start_matches('-');
    let distance = |option: &&String| match option.starts_with(typed) || typed.starts_with(option.as_str()) {
        true if typed.len() > 2 => 0,
        _ => edits(typed, option),
    };
    let nearest = options.iter().min_by_key(distance)?;
    (distance(&nearest) <= 2 && typed.len() > 2).then_some(nearest.as_str())
}

/// Letters to insert, remove or replace between the two (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn a_mistyped_option_is_no_image_and_the_one_that_was_meant_is_named() {
        for (line, hint) in [
            ("--replica 3 bb:1", "--replicas"),
            ("--replcias=3 bb:1", "--replicas"),
            ("--evn A=1 bb:1", "--env"),
            ("--timeuot 3s bb:1", "--timeout"),
            ("--env-file f bb:1", "--env"),
            ("--frobnicate bb:1", "--help"),
            ("-x bb:1", "--help"),
        ] {
            let failure = check(&words(line)).expect_err(line);
            assert!(failure.message.contains("before the image"), "{failure}");
            assert!(failure.hint.as_deref().is_some_and(|text| text.contains(hint)), "{line}: {failure}");
        }
        for line in ["bb:1 sh -c true", "bb:1 -- --replicas 3", "bb:1 cmd --wait-timeout 10s", ""] {
            assert_eq!(check(&words(line)), Ok(()), "{line}");
        }
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!([edits("", "abc"), edits("abc", "abc"), edits("evn", "env"), edits("abcd", "abd")], [3, 0, 2, 1]);
    }
}
