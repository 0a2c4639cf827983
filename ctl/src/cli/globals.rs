//! Options of every command: which managers are asked, who asks, how results look.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::address::Addresses;
use crate::output::Format;
use crate::values;

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Managers to ask, tried in turn: HOST[:PORT],... [default: the context's; without one, or with
    /// --credentials or --plaintext and no --context, 127.0.0.1:7700]
    #[arg(short = 'H', long, global = true, env = "GOAT_ADDR")]
    pub address: Option<Addresses>,
    /// File that shows who asks, as `goat-manager init` and `cluster issue-client` write it [default: the context's]
    #[arg(long, global = true, env = "GOAT_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Which of the kept clusters is meant [default: that of `context use`]
    #[arg(long = "context", global = true, env = "GOAT_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The cluster is unencrypted, on this machine's loopback
    #[arg(long, global = true, env = "GOAT_PLAINTEXT", conflicts_with = "credentials")]
    pub plaintext: bool,
    /// How long one request may take, over all managers and retries
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = values::timeout)]
    pub timeout: Duration,
    /// Collector that gets a trace of what this command causes, over OTLP, as in http://127.0.0.1:4317
    #[arg(long, global = true, env = "GOAT_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}
