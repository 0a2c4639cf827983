//! goatctl, as a user of a test cluster starts it.

use std::time::Duration;

use tokio::process::Command;

use crate::error::Error;
use crate::layout::Layout;
use crate::options::Options;

/// For a command that ends by itself.
const WITHIN: Duration = Duration::from_secs(60);

/// goatctl with the cluster's addresses and credentials. It ends when its handle is dropped.
pub fn command(layout: &Layout) -> Result<Command, Error> {
    let mut command = Command::new(Options::binaries()?.join("goatctl"));
    command.env("GOAT_ADDR", layout.addresses().join(",")).env("GOAT_CREDENTIALS", layout.credentials());
    command.kill_on_drop(true);
    Ok(command)
}

/// Runs goatctl to its end, and returns its output. An error if it fails.
pub async fn run(layout: &Layout, args: &[&str]) -> Result<String, Error> {
    let output = tokio::time::timeout(WITHIN, command(layout)?.args(args).output())
        .await
        .map_err(|_| Error::failed(format!("goatctl {} does not end", args.join(" "))))?
        .map_err(|source| Error::Io { what: "cannot start goatctl".into(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("goatctl {} failed: {}", args.join(" "), said.trim())))
}
