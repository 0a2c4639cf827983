//! The targets. One file for each kind of bytes.

mod commands;
mod files;
mod rows;
mod samples;
mod secrets;
mod store;
mod wire;

use crate::Target;

/// All of them, by name.
pub const ALL: &[Target] = &[
    Target { name: "apply", samples: commands::samples, run: commands::apply },
    Target { name: "archive", samples: rows::archives, run: rows::archive },
    Target { name: "command", samples: rows::commands, run: rows::command },
    Target { name: "control-requests", samples: wire::control_samples, run: wire::control },
    Target { name: "credentials", samples: secrets::credentials_samples, run: secrets::credentials },
    Target { name: "id", samples: rows::ids, run: rows::id },
    Target { name: "join-token", samples: secrets::token_samples, run: secrets::token },
    Target { name: "journal", samples: files::journal_samples, run: files::journal },
    Target { name: "lease-file", samples: files::lease_samples, run: files::lease },
    Target { name: "manager-config", samples: files::manager_config_samples, run: files::manager_config },
    Target { name: "manager-messages", samples: wire::down_samples, run: wire::down },
    Target { name: "outcome", samples: rows::outcomes, run: rows::outcome },
    Target { name: "rows", samples: rows::row_samples, run: rows::rows },
    Target { name: "signing-request", samples: secrets::request_samples, run: secrets::request },
    Target { name: "snapshot-stream", samples: store::samples, run: store::snapshot },
    Target { name: "spec", samples: wire::spec_samples, run: wire::spec },
    Target { name: "worker-config", samples: files::worker_config_samples, run: files::worker_config },
    Target { name: "worker-messages", samples: wire::up_samples, run: wire::up },
];
