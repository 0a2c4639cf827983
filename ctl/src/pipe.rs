//! Output of commands that last: written by a thread of its own. A reader that stops reading (`| less`) then stops only the
//! writing. The connection lives on: the manager's pings are answered, and what it sends waits in the connection's window.

use std::io::Write;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::exit::Failure;

/// Pieces that wait to be written; then the command waits.
const QUEUE: usize = 8;

/// One piece of output.
#[derive(Debug)]
pub enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Standard output and standard error, behind a queue.
#[derive(Debug)]
pub struct Pipe {
    queue: mpsc::Sender<Piece>,
    writer: JoinHandle<std::io::Result<()>>,
}

impl Pipe {
    pub fn new() -> Self {
        let (queue, mut pieces) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                write(&piece)?;
            }
            Ok(())
        });
        Self { queue, writer }
    }

    /// Queues a piece; waits while the queue is full.
    ///
    /// # Errors
    /// Of an earlier piece, as when the reader has left.
    pub async fn write(&mut self, piece: Piece) -> Result<(), Failure> {
        if self.queue.send(piece).await.is_ok() {
            return Ok(());
        }
        // The thread ends before the queue only with an error.
        written((&mut self.writer).await)
    }

    /// Returns when everything is written.
    pub async fn finish(self) -> Result<(), Failure> {
        drop(self.queue);
        written(self.writer.await)
    }
}

fn written(outcome: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    Ok(outcome.map_err(std::io::Error::other)??)
}

fn write(piece: &Piece) -> std::io::Result<()> {
    match piece {
        Piece::Stdout(bytes) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        Piece::Stderr(bytes) => std::io::stderr().lock().write_all(bytes),
    }
}
