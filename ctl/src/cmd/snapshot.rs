//! `operator snapshot`: the cluster's state as a file. A file gets its name once it is whole, checked and on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goat_core::archive::{self, Head, Reader};
use goat_core::state::State;
use goat_proto::v1::{SaveSnapshotRequest, SnapshotPiece};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Out, local_time, rfc3339, size};

/// Its owner's alone.
const MODE: u32 = 0o600;

pub async fn save(context: &Context, path: &Path) -> Result<(), Failure> {
    if path.exists() {
        let hint = "give another name: an older snapshot is not overwritten";
        return Err(Failure::failed(format!("{} is there already", path.display())).with_hint(hint));
    }
    let partial = Partial::create(path)?;
    let pieces =
        context.client.stream(SaveSnapshotRequest {}, async |control, request| control.save_snapshot(request).await);
    receive(pieces.await?, &partial).await?;
    let (head, bytes) = check(&partial.path)?;
    partial.keep(path)?;
    if context.out.is_json() {
        return context.out.json(&described(path, &head, bytes));
    }
    context.out.line(format_args!(
        "saved {}: {} services, {} tasks, {} nodes as of index {}, {}",
        path.display(),
        head.services,
        head.tasks,
        head.nodes,
        head.index,
        size(bytes)
    ))
}

async fn receive(mut pieces: tonic::Streaming<SnapshotPiece>, partial: &Partial) -> Result<(), Failure> {
    let bar = bar();
    loop {
        match pieces.message().await {
            Ok(Some(piece)) => {
                bar.set_length(piece.rows);
                bar.set_position(piece.rows_done);
                (&partial.file).write_all(&piece.data).map_err(|error| failed("write", &partial.path, &error))?;
            }
            Ok(None) => break,
            Err(status) => return Err(broken(&status)),
        }
    }
    bar.finish_and_clear();
    partial.file.sync_all().map_err(|error| failed("sync", &partial.path, &error))
}

/// Why there is no snapshot: the manager is gone, or says why it gives none.
fn broken(status: &tonic::Status) -> Failure {
    let is_gone = status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some();
    if !is_gone {
        return Failure::from_status(status);
    }
    Failure::new(Exit::Unreachable, format!("the connection broke in the middle: {}", status.message()))
        .with_hint("nothing is left of it: repeat the command")
}

/// Rows; seen on a terminal only.
pub(super) fn bar() -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows");
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

pub fn inspect(out: &Out, path: &Path) -> Result<(), Failure> {
    let (head, bytes, _) = load(path)?;
    if out.is_json() {
        return out.json(&described(path, &head, bytes));
    }
    out.page(&[
        ("File", path.display().to_string()),
        ("Size", size(bytes)),
        ("Cluster", head.cluster_id),
        ("Index", head.index.to_string()),
        ("Term", head.term.to_string()),
        ("Made", local_time(head.made_at_ms)),
        ("By", format!("manager {}, version {}", head.made_by, head.program_version)),
        ("Services", head.services.to_string()),
        ("Tasks", head.tasks.to_string()),
        ("Nodes", head.nodes.to_string()),
        ("Rows", head.rows.to_string()),
        ("Whole", "yes: the checksum is right, and the rows make a state".into()),
    ])
}

/// Reads a file to the end: what it says of itself, its size, and the state that it holds.
pub(super) fn load(path: &Path) -> Result<(Head, u64, State), Failure> {
    let (file, bytes) = open(path)?;
    let loaded = archive::load(file).map_err(|error| unusable(path, &error))?;
    Ok((loaded.head, bytes, loaded.state))
}

/// Reads a file to the end, and says what it says of itself, and its size.
fn check(path: &Path) -> Result<(Head, u64), Failure> {
    let (file, bytes) = open(path)?;
    let mut reader = Reader::begin(file).map_err(|error| unusable(path, &error))?;
    while reader.next_row().map_err(|error| unusable(path, &error))?.is_some() {}
    Ok((reader.head().clone(), bytes))
}

fn open(path: &Path) -> Result<(BufReader<File>, u64), Failure> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let bytes = file.metadata().map_err(|error| failed("read", path, &error))?.len();
    Ok((BufReader::with_capacity(256 << 10, file), bytes))
}

fn unusable(path: &Path, error: &archive::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

fn described(path: &Path, head: &Head, bytes: u64) -> serde_json::Value {
    json!({
        "file": path, "size_bytes": bytes, "cluster_id": head.cluster_id, "index": head.index, "term": head.term,
        "made_at": rfc3339(head.made_at_ms), "made_by": head.made_by, "program_version": head.program_version,
        "services": head.services, "tasks": head.tasks, "nodes": head.nodes, "rows": head.rows,
    })
}

pub(super) fn failed(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {action} {}: {error}", path.display()))
}

/// A file that is being written, beside the one that it is to become. It goes again where it does not.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Partial {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} names no file", path.display())))?;
        let partial = path.with_file_name(format!("{}.partial-{}", name.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&partial);
        let file = file.map_err(|error| failed("create", &partial, &error))?;
        Ok(Self { file, path: partial, is_kept: false })
    }

    pub(super) fn keep(mut self, path: &Path) -> Result<(), Failure> {
        // A link and not a rename: what came to be there meanwhile is not overwritten.
        match fs::hard_link(&self.path, path) {
            Ok(()) => drop(fs::remove_file(&self.path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(failed("make", path, &error)),
            // Not every file system has links.
            Err(_) => fs::rename(&self.path, path).map_err(|error| failed("make", path, &error))?,
        }
        self.is_kept = true;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("sync", dir, &error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn a_refusal_keeps_its_words_and_its_exit_code() {
        let refusal = broken(&Status::permission_denied("client bob may not save snapshots"));
        assert_eq!((refusal.exit, refusal.message.as_str()), (Exit::Failed, "client bob may not save snapshots"));
        assert_eq!(broken(&Status::deadline_exceeded("it was not read for 30 s")).exit, Exit::TimedOut);
        let gone = broken(&Status::unavailable("this manager is stopping"));
        assert_eq!(gone.exit, Exit::Unreachable);
        assert!(gone.message.contains("in the middle: this manager is stopping"), "{gone}");
    }
}
