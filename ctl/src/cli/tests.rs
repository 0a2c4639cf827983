//! What the command line takes, and how it is put together.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// clap keeps the values of both under one name, and falls over when their types differ.
#[test]
fn no_command_has_an_argument_named_as_an_option_of_every_command() {
    fn look(command: &clap::Command, of_all: &[&str], doubled: &mut Vec<String>) {
        let own = command.get_arguments().filter(|argument| !argument.is_global_set());
        let named = own.map(|argument| argument.get_id().as_str()).filter(|id| of_all.contains(id));
        doubled.extend(named.map(|id| format!("{}: {id}", command.get_name())));
        command.get_subcommands().for_each(|below| look(below, of_all, doubled));
    }
    let cli = Cli::command();
    let of_all = cli.get_arguments().filter(|argument| argument.is_global_set());
    let of_all: Vec<_> = of_all.map(|argument| argument.get_id().as_str()).collect();
    let mut doubled = Vec::new();
    look(&cli, &of_all, &mut doubled);
    assert!(of_all.len() > 5 && doubled.is_empty(), "{doubled:?}");
}

fn words(line: &str) -> Vec<String> {
    let cli = Cli::try_parse_from(line.split_whitespace()).expect(line);
    match cli.command {
        Command::Run(run) => run.words,
        Command::Service(ServiceCommand::Create { words, .. }) => words,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_follows_the_image_is_its_own() {
    assert_eq!(words("goatctl run --replicas 2 echo:1 sh -c true"), ["echo:1", "sh", "-c", "true"]);
    assert_eq!(words("goatctl service create echo:1 --replicas 2 -- -c true"), ["echo:1", "-c", "true"]);
    assert_eq!(words("goatctl service create echo:1 sleep 60 --name x"), ["echo:1", "sleep", "60"]);
}
