//! What the man pages say beside what clap knows.

use goat_system::man::{Book, Section};

pub const BOOK: Book = Book { number: "8", sections: &[FILES, EXIT_STATUS, ENVIRONMENT, SIGNALS], see_also: SEE_ALSO };

const SEE_ALSO: &str = "goatctl(1), goat-worker(8), systemd.service(5), /usr/share/doc/goat-manager";

const FILES: Section = Section {
    heading: "FILES",
    terms: &[
        (
            "/etc/goat/manager.toml",
            "Options of `run` as the package's unit starts it; every one is in the file with its default and a sentence.",
        ),
        (
            "/var/lib/goat/manager",
            "The data directory of the package's unit: log, rows and snapshots of the replicated state. It holds the key of \
             the cluster's certificate authority, so it is readable by the user goat alone. A manager whose directory is \
             lost is a new manager.",
        ),
        ("/var/lib/goat/manager/client.pem", "The first user's credentials, as `init` leaves them; for goatctl."),
        ("/lib/systemd/system/goat-manager.service", "The package's unit; not enabled until you do."),
    ],
};

const EXIT_STATUS: Section = Section {
    heading: "EXIT STATUS",
    terms: &[
        ("0", "Stopped as asked, or done."),
        ("1", "Cannot go on, or not done; the last line says why."),
        ("2", "Wrong options, or a wrong config file."),
        (
            "3",
            "Removed from the cluster, on an old copy of its data directory, or on one that neither `init` nor `join` has \
             prepared: to start it again is of no use.",
        ),
    ],
};

const ENVIRONMENT: Section = Section {
    heading: "ENVIRONMENT",
    terms: &[
        (
            "GOAT_MANAGER_...",
            "Every option of `run`, in capitals: GOAT_MANAGER_LISTEN is --listen. A flag wins over it, and it wins over the \
             config file.",
        ),
        ("GOAT_JOIN_TOKEN", "The token of `join`, which others do not see there as they would on the command line."),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Set by systemd: it is told when the manager serves, whom it follows, and, for as long as Raft and the applied \
             state answer, that it lives.",
        ),
    ],
};

const SIGNALS: Section = Section {
    heading: "SIGNALS",
    terms: &[(
        "SIGTERM, SIGINT",
        "The manager stops; a leader hands over to the follower that is most up to date first.",
    )],
};
