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
mod health;
mod man;
mod output;
mod redact;
mod rows;
mod spec;
mod values;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: there is one user, and every wait is for the network.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(),
    };
    let outcome = runtime.block_on(cmd::run(cli));
    // Nothing that still runs (the look-up of a name, say) is worth waiting for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
