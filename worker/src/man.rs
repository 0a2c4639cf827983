//! What the man pages say beside what clap knows.

use goat_system::man::{Book, Section};

pub const BOOK: Book = Book { number: "8", sections: &[FILES, EXIT_STATUS, ENVIRONMENT, SIGNALS], see_also: SEE_ALSO };

const SEE_ALSO: &str = "goatctl(1), goat-manager(8), systemd.service(5), /usr/share/doc/goat-worker";

const FILES: Section = Section {
    heading: "FILES",
    terms: &[
        (
            "/etc/goat/worker.toml",
            "Options of `run` as the package's unit starts it; every one is in the file with its default and a sentence.",
        ),
        (
            "/var/lib/goat/worker",
            "The data directory of the package's unit: this worker's identity, the journal of its tasks, and the tasks of \
             the process runtime.",
        ),
        ("/var/run/docker.sock", "Docker's socket, unless docker_host says otherwise."),
        ("/lib/systemd/system/goat-worker.service", "The package's unit; not enabled until you do."),
    ],
};

const EXIT_STATUS: Section = Section {
    heading: "EXIT STATUS",
    terms: &[
        ("0", "Stopped as asked, or done."),
        ("1", "Cannot run, or not done; the last line says why."),
        ("2", "Wrong options, or a wrong config file."),
        ("3", "Removed from the cluster, or not in one yet: it has to join before it is started again."),
    ],
};

const ENVIRONMENT: Section = Section {
    heading: "ENVIRONMENT",
    terms: &[
        (
            "GOAT_WORKER_...",
            "Every option of `run`, in capitals: GOAT_WORKER_ADDRESS is --address. A flag wins over it, and it wins over the \
             config file.",
        ),
        ("GOAT_JOIN_TOKEN", "The token of `join`, which others do not see there as they would on the command line."),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Set by systemd: it is told when the agent runs, with which manager it holds a session, and, for as long as it \
             answers, that it lives. Tasks and the processes beside the agent do not inherit them.",
        ),
    ],
};

const SIGNALS: Section = Section {
    heading: "SIGNALS",
    terms: &[("SIGTERM, SIGINT", "The agent stops; its tasks run on, and the next agent adopts them.")],
};
