//! What the man pages say beside what clap knows.

use goat_system::man::{Book, Section};

pub const BOOK: Book = Book {
    number: "1",
    sections: &[FILES, EXIT_STATUS, ENVIRONMENT, SIGNALS],
    see_also: "goat-manager(8), goat-worker(8)",
};

const FILES: Section = Section {
    heading: "FILES",
    terms: &[(
        "~/.config/goat",
        "Clusters kept by name, with their addresses and credentials (`goatctl context`); $XDG_CONFIG_HOME/goat where that is \
         set. Files that others can read are refused.",
    )],
};

const EXIT_STATUS: Section = Section {
    heading: "EXIT STATUS",
    terms: &[
        ("0", "Done."),
        ("1", "Failed; the message says why."),
        ("2", "Wrong usage."),
        ("3", "A task cannot be placed."),
        ("4", "Timed out."),
        ("5", "No leader, or no manager reachable."),
        ("6", "The change was accepted, and its tasks do not stay up."),
    ],
};

const ENVIRONMENT: Section = Section {
    heading: "ENVIRONMENT",
    terms: &[
        ("GOAT_ADDR", "Managers to ask, as --address."),
        ("GOAT_CREDENTIALS", "File that shows who asks, as --credentials."),
        ("GOAT_CONTEXT", "Which of the kept clusters is meant, as --context."),
        ("GOAT_PLAINTEXT", "The cluster is unencrypted, as --plaintext."),
        ("NO_COLOR", "Nothing is coloured where this is set."),
    ],
};

const SIGNALS: Section = Section {
    heading: "SIGNALS",
    terms: &[("SIGINT", "Ends the wait for a change that was accepted. The change stays.")],
};
