//! A task's output, from its worker to whoever asked: the leader asks over the session, the worker opens a stream for it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use goat_core::model::NodeId;
use goat_proto::v1::{self, manager_message};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Active;

/// For the worker to open its stream.
const OPEN: Duration = Duration::from_secs(10);
const QUEUE: usize = 16;
/// Log streams at one time, over all workers.
const MAX_STREAMS: usize = 1_024;

/// Pieces of output, until the end or an error.
pub type LogChunks = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

type Sink = mpsc::Sender<Result<v1::LogChunk, Status>>;

/// Streams that are waited for.
#[derive(Debug, Default)]
pub(super) struct Broker {
    waiting: Arc<Mutex<HashMap<String, mpsc::Sender<Reply>>>>,
}

/// Handed to the worker's stream when it comes: where its pieces go.
type Reply = tokio::sync::oneshot::Sender<Sink>;

/// Takes a stream off the list however its opening ends.
struct Waiting {
    id: String,
    waiting: Arc<Mutex<HashMap<String, mpsc::Sender<Reply>>>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

impl Active {
    pub(super) async fn open_logs(&self, node: NodeId, wanted: v1::LogsWanted) -> Result<LogChunks, Status> {
        let session = self.session_of(node).ok_or_else(|| {
            Status::unavailable(
                "the task's worker has no session with the leader at present; its output is on the worker",
            )
        })?;
        let (opened, mut came) = mpsc::channel(1);
        let id = wanted.stream_id.clone();
        let waiting = self.logs.waiting.clone();
        {
            let mut waiting = waiting.lock();
            if waiting.len() >= MAX_STREAMS {
                return Err(Status::resource_exhausted(format!("{MAX_STREAMS} log streams are being opened already")));
            }
            waiting.insert(id.clone(), opened);
        }
        let _waiting = Waiting { id, waiting };
        let message = self.message(manager_message::Message::Logs(wanted));
        let unanswered =
            || Status::deadline_exceeded(format!("the task's worker did not answer within {} s", OPEN.as_secs()));
        let opening = async {
            session
                .to_worker
                .send(Ok(message))
                .await
                .map_err(|_| Status::unavailable("the task's worker has just gone"))?;
            came.recv().await.ok_or_else(|| Status::unavailable("the leader is stepping down"))
        };
        let reply = tokio::time::timeout(OPEN, opening).await.map_err(|_| unanswered())??;
        let (sink, chunks) = mpsc::channel(QUEUE);
        reply.send(sink).map_err(|_| Status::unavailable("the task's worker has just gone"))?;
        Ok(ReceiverStream::new(chunks).boxed())
    }

    /// A worker's stream, passed on until its end or until nobody wants it any more.
    pub(super) async fn receive_logs(&self, mut messages: Streaming<v1::PushLogsMessage>) -> Result<(), Status> {
        let first = messages.message().await?.ok_or_else(|| Status::invalid_argument("an empty log stream"))?;
        let opened = self.logs.waiting.lock().get(&first.stream_id).cloned();
        let opened = opened.ok_or_else(|| Status::not_found("nobody waits for this log stream"))?;
        let (reply, sink) = tokio::sync::oneshot::channel();
        opened.try_send(reply).map_err(|_| Status::not_found("nobody waits for this log stream"))?;
        let sink = sink.await.map_err(|_| Status::cancelled("nobody waits for this log stream any more"))?;
        let ended = self.tasks.cancelled();
        let mut next = Some(first);
        while let Some(message) = next {
            let piece = match (message.error.as_str(), message.chunk) {
                ("", Some(chunk)) => Some(Ok(chunk)),
                ("", None) => None,
                (error, _) => Some(Err(Status::failed_precondition(error.to_owned()))),
            };
            if let Some(piece) = piece
                && sink.send(piece).await.is_err()
            {
                return Ok(());
            }
            next = tokio::select! {
                message = messages.message() => message?,
                () = sink.closed() => return Ok(()),
                () = ended.cancelled() => {
                    let _ = sink.try_send(Err(Status::unavailable("the leader is stepping down")));
                    return Ok(());
                }
            };
        }
        Ok(())
    }
}
