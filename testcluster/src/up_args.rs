//! The command line of `testcluster up`.

use clap::Args;

use crate::cli::RuntimeArg;

#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// How many managers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub managers: u8,
    /// Managers beyond these that do not run until they join (`testcluster join m4`)
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=8))]
    pub spare_managers: u8,
    /// How many workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub workers: u8,
    /// What runs tasks
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeArg,
    /// Where echo answers, on 127.0.0.1
    #[arg(long, default_value_t = 7777, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Give each worker a Docker daemon of its own: d1, d2, ... Needs root
    #[arg(long)]
    pub daemons: bool,
    /// Containers outlive those daemons
    #[arg(long, requires = "daemons")]
    pub live_restore: bool,
    /// Load a library into managers that slows their disks down when asked to (`testcluster slow-disk`)
    #[arg(long)]
    pub slow_disks: bool,
    /// Collector that gets the traces of requests that are traced, over OTLP, as in http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Start without the service echo
    #[arg(long)]
    pub no_echo: bool,
    /// Keep the directory at the end, for a look at logs and data; the next `up` removes it
    #[arg(long)]
    pub keep: bool,
    /// Return when the cluster is up, and let it run
    #[arg(short, long)]
    pub detach: bool,
    /// This is the process that goes on
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub is_detached: bool,
}

impl Default for UpArgs {
    fn default() -> Self {
        Self {
            managers: 3,
            spare_managers: 0,
            workers: 3,
            runtime: RuntimeArg::Auto,
            port: 7777,
            daemons: false,
            live_restore: false,
            slow_disks: false,
            otlp_endpoint: None,
            no_echo: false,
            keep: false,
            detach: false,
            is_detached: false,
        }
    }
}
