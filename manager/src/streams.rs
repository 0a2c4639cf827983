//! Streams whose end says whether they are whole. A stream that merely stops looks whole to its reader, so a producer states
//! that it has sent everything, and whatever else ends the stream is an error.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How a stream ended, set by its producer. Clones share it.
#[derive(Debug, Clone)]
pub struct Ending(Arc<Mutex<Option<Status>>>);

impl Ending {
    /// The error, unless the producer says otherwise.
    pub fn new(broken: Status) -> Self {
        Self(Arc::new(Mutex::new(Some(broken))))
    }

    /// Everything was sent.
    pub fn complete(&self) {
        *self.0.lock() = None;
    }

    /// The stream ends with this error.
    pub fn fail(&self, status: Status) {
        *self.0.lock() = Some(status);
    }
}

/// What is received, and after it the error that it ended with.
pub fn ending<T: Send + 'static>(
    receiver: mpsc::Receiver<T>,
    ending: Ending,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let last = stream::once(async move { ending.0.lock().take() });
    ReceiverStream::new(receiver).map(Ok).chain(last.filter_map(|status| std::future::ready(status.map(Err))))
}

/// The same until this manager stops, which is an error of the stream.
pub fn until_stopped<T: Send + 'static>(
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let stopped = stopping.clone();
    let last = stream::once(async move { stopped.is_cancelled() }).filter_map(|is_stopped| {
        std::future::ready(is_stopped.then(|| Err(Status::unavailable("this manager stops"))))
    });
    // Whole streams end by themselves; one that was whole when the manager stopped may be asked for again.
    stream.take_until(stopping.cancelled_owned()).chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_merely_stops_ends_with_an_error() {
        let (sender, receiver) = mpsc::channel(1);
        let end = Ending::new(Status::unavailable("broken"));
        let mut read = std::pin::pin!(ending(receiver, end.clone()));
        sender.send(1).await.expect("there is a reader");
        drop(sender);
        assert_eq!(read.next().await.expect("a piece").expect("whole"), 1);
        assert_eq!(read.next().await.expect("its end").expect_err("an error").message(), "broken");
        assert!(read.next().await.is_none());

        let (sender, receiver) = mpsc::channel::<u8>(1);
        let end = Ending::new(Status::unavailable("broken"));
        let mut read = std::pin::pin!(ending(receiver, end.clone()));
        end.complete();
        drop(sender);
        assert!(read.next().await.is_none(), "nothing is missing");
    }

    #[tokio::test]
    async fn a_manager_that_stops_cuts_a_stream_with_an_error() {
        let stopping = CancellationToken::new();
        let endless = stream::pending::<Result<u8, Status>>();
        let mut read = std::pin::pin!(until_stopped(endless, stopping.clone()));
        stopping.cancel();
        assert!(read.next().await.expect("its end").is_err());
    }
}
