//! Man pages: what clap knows of a program and its subcommands, with the sections that it does not know.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// A section of terms, each with what it means: `FILES`, `EXIT STATUS`, `ENVIRONMENT`, `SIGNALS`.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    pub heading: &'static str,
    pub terms: &'static [(&'static str, &'static str)],
}

/// What stands in a program's pages beside its command line.
#[derive(Debug, Clone, Copy)]
pub struct Book {
    /// `1` for users' programs, `8` for those of the system.
    pub number: &'static str,
    /// In the page of the program itself.
    pub sections: &'static [Section],
    /// Pages and texts to read on.
    pub see_also: &'static str,
}

/// Writes `NAME.8`, and `NAME-SUBCOMMAND.8` for each subcommand that is shown, into a directory.
pub fn write(mut command: Command, book: &Book, dir: &Path) -> io::Result<()> {
    command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let version = command.get_version().unwrap_or_default().to_owned();
    write_page(&command, book, &format!("{name} {version}"), dir)
}

fn write_page(command: &Command, book: &Book, source: &str, dir: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_page(subcommand, book, source, dir)?;
    }
    let is_whole = command.get_display_name().is_none_or(|name| name == command.get_name());
    let page = Man::new(command.clone()).section(book.number).source(source).manual("GOAT");
    let mut file = Vec::new();
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    page.render_synopsis_section(&mut file)?;
    page.render_description_section(&mut file)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        page.render_options_section(&mut file)?;
    }
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        page.render_subcommands_section(&mut file)?;
    }
    let program = source.split(' ').next().unwrap_or_default();
    for section in book.sections.iter().filter(|_| is_whole) {
        write_section(section, &mut file)?;
    }
    let mut end = Roff::new();
    end.control("SH", ["SEE ALSO"]);
    let above = if is_whole { String::new() } else { format!("{program}({}), ", book.number) };
    end.text([roman(format!("{above}{}", book.see_also))]);
    end.to_writer(&mut file)?;
    std::fs::File::create(dir.join(page.get_filename()))?.write_all(&file)
}

fn write_section(section: &Section, to: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [section.heading]);
    for (term, meaning) in section.terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
    roff.to_writer(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: Book = Book {
        number: "8",
        sections: &[Section { heading: "SIGNALS", terms: &[("SIGTERM", "it ends")] }],
        see_also: "other(1)",
    };

    #[test]
    fn a_program_has_a_page_and_so_has_each_subcommand_that_is_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let hidden = Command::new("secret").hide(true);
        let command = Command::new("goat-x").version("1.2.3").about("X").subcommand(hidden);
        let command = command.subcommand(Command::new("run").about("Runs").arg(clap::arg!(--fast "Runs faster")));
        write(command, &BOOK, dir.path()).expect("written");
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("read")).collect();
        names.sort_by_key(|entry| entry.file_name());
        let names: Vec<_> = names.iter().map(|entry| entry.file_name().into_string().expect("a name")).collect();
        assert_eq!(names, ["goat-x-run.8", "goat-x.8"]);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
        let (whole, run) = (read("goat-x.8"), read("goat-x-run.8"));
        assert!(whole.contains(".SH SIGNALS") && whole.contains("it ends") && !whole.contains("secret"), "{whole}");
        assert!(run.contains("Runs faster") && !run.contains("SIGNALS"), "{run}");
        assert!(run.contains("goat\\-x(8), other(1)"), "{run}");
    }
}
