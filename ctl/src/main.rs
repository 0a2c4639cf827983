//! `goatctl`: reads the command line, asks the managers, prints, and ends with the right code. It decides nothing that
//! another client would have to decide again.
#![forbid(unsafe_code)]
// Help texts are doc comments, and HOST[:PORT] in them is no link.
#![allow(rustdoc::broken_intra_doc_links)]

mod address;
mod cli;
mod client;
mod cmd;
mod context;
mod exit;
mod expiry;
mod fields;
mod health;
mod man;
mod output;
mod pipe;
mod redact;
mod rows;
mod spec;
mod values;
mod wait;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use goat_observe::Traces;
use tracing::{Instrument, trace_span};

use crate::cli::Cli;
use crate::exit::Failure;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let words = words(&matches);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // One thread: there is one user, and every wait is for the network.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(),
    };
    let outcome = runtime.block_on(traced(cli, &words));
    // Nothing that still runs (the look-up of a name, say) is worth waiting for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The command's words, without what the user has put in.
fn words(matches: &ArgMatches) -> String {
    let deeper = std::iter::successors(matches.subcommand(), |(_, matches)| matches.subcommand());
    std::iter::once("goatctl").chain(deeper.map(|(word, _)| word)).collect::<Vec<_>>().join(" ")
}

/// Runs it, as the beginning of a trace where there is a collector.
async fn traced(cli: Cli, words: &str) -> Result<(), Failure> {
    let Some(endpoint) = cli.globals.otlp_endpoint.clone() else { return cmd::run(cli).await };
    let traces = Traces { endpoint, service: "goatctl", instance: String::new() };
    let tracing = goat_observe::start(None, Some(&traces)).map_err(|error| Failure::usage(error.to_string()))?;
    let span =
        trace_span!(target: goat_observe::traces::TARGET, "goatctl", "otel.name" = words, "otel.kind" = "client");
    let outcome = cmd::run(cli).instrument(span).await;
    tracing.finish().await;
    outcome
}
