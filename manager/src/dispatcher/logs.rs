//! A task's output, from its worker to whoever asked: the leader asks over the session, the worker opens a stream for it.
//!
//! A reader that stops reading holds one stream: [`QUEUE`] messages here and what the connections' windows hold. Each stream
//! has a connection of its own, so a stalled reader stops no other stream and no session.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use goat_core::model::NodeId;
use goat_proto::logs::padded;
use goat_proto::v1::{self, manager_message};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::Active;
use crate::quota::{Exceeded, Permit, Quota};
use crate::streams::{Ending, ending};

/// For the worker to open its stream.
const OPEN: Duration = Duration::from_secs(10);
/// For the first message of a worker's stream to be whole.
const FIRST: Duration = Duration::from_secs(10);
/// For a reader that takes nothing. Then its stream ends with an error.
const STALLED: Duration = Duration::from_secs(24 * 3_600);
/// Messages that wait for a slow reader.
const QUEUE: usize = 2;
/// Log streams at the same time, over all workers.
const MAX_STREAMS: usize = 256;
/// Log streams at the same time of one worker.
pub(super) const MAX_STREAMS_PER_NODE: usize = 32;
/// Of one message. Workers send 64 KiB of output at once; earlier versions 256 KiB.
pub(super) const MESSAGE_BYTES: usize = (256 + 4) << 10;

/// Pieces of output, until the end or an error.
pub type LogChunks = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

/// Where a worker's stream sends its output.
#[derive(Debug)]
struct Sink {
    chunks: mpsc::Sender<v1::LogChunk>,
    ending: Ending,
}

/// Handed to the worker's stream when it comes: where its pieces go.
type Reply = oneshot::Sender<Sink>;

type WaitingStreams = Arc<Mutex<HashMap<String, mpsc::Sender<Reply>>>>;

/// Streams that are waited for, and the number of those that are open.
#[derive(Debug)]
pub(super) struct Broker {
    waiting: WaitingStreams,
    open: Quota,
}

impl Default for Broker {
    fn default() -> Self {
        Self { waiting: Arc::default(), open: Quota::new(MAX_STREAMS, MAX_STREAMS_PER_NODE) }
    }
}

/// Takes a stream off the list however its opening ends.
struct Waiting {
    id: String,
    waiting: WaitingStreams,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

fn exceeded(node: NodeId, limit: Exceeded) -> Status {
    Status::resource_exhausted(match limit {
        Exceeded::Each(limit) => {
            format!("{limit} log streams of node {node} are open, and more are not allowed: end one of them")
        }
        Exceeded::Total(limit) => format!("{limit} log streams are open, and more are not allowed: end one of them"),
    })
}

fn broken() -> Status {
    Status::unavailable("the log stream from the task's worker broke")
}

impl Active {
    pub(super) async fn open_logs(&self, node: NodeId, wanted: v1::LogsWanted) -> Result<LogChunks, Status> {
        let session = self.session_of(node).ok_or_else(|| {
            Status::unavailable(
                "the task's worker has no session with the leader at present; its output is on the worker",
            )
        })?;
        let permit = self.logs.open.take(&node.to_string()).map_err(|limit| exceeded(node, limit))?;
        let (opened, mut came) = mpsc::channel(1);
        let id = wanted.stream_id.clone();
        let waiting = self.logs.waiting.clone();
        waiting.lock().insert(id.clone(), opened);
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
        let (chunks, output) = mpsc::channel(QUEUE);
        let end = Ending::new(broken());
        let sink = Sink { chunks, ending: end.clone() };
        reply.send(sink).map_err(|_| Status::unavailable("the task's worker has just gone"))?;
        Ok(held(ending(output, end), permit))
    }

    /// A worker's stream, passed on until its end or until nobody wants it any more.
    pub(super) async fn receive_logs(&self, mut messages: Streaming<v1::PushLogsMessage>) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST, messages.message()).await.map_err(|_| {
            Status::deadline_exceeded(format!("no first message of a log stream within {} s", FIRST.as_secs()))
        })??;
        let first = first.ok_or_else(|| Status::invalid_argument("an empty log stream"))?;
        let opened = self.logs.waiting.lock().get(&first.stream_id).cloned();
        let opened = opened.ok_or_else(|| Status::not_found("nobody waits for this log stream"))?;
        let (reply, sink) = oneshot::channel();
        opened.try_send(reply).map_err(|_| Status::not_found("nobody waits for this log stream"))?;
        let sink = sink.await.map_err(|_| Status::cancelled("nobody waits for this log stream any more"))?;
        let ended = self.tasks.cancelled();
        tokio::select! {
            outcome = pass_on(first, messages, &sink) => match &outcome {
                Ok(()) => sink.ending.complete(),
                Err(status) => sink.ending.fail(status.clone()),
            },
            () = sink.chunks.closed() => {}
            () = ended.cancelled() => sink.ending.fail(Status::unavailable("the leader is stepping down")),
        }
        Ok(())
    }
}

/// Until the worker has sent everything.
async fn pass_on(
    first: v1::PushLogsMessage,
    mut messages: Streaming<v1::PushLogsMessage>,
    sink: &Sink,
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(v1::PushLogsMessage { chunk, error, .. }) = next {
        if !error.is_empty() {
            return Err(Status::failed_precondition(error));
        }
        if let Some(chunk) = chunk {
            let sent = tokio::time::timeout(STALLED, sink.chunks.send(padded(chunk))).await;
            sent.map_err(|_| {
                Status::deadline_exceeded(format!("nothing was read for {} h", STALLED.as_secs() / 3_600))
            })?
            .map_err(|_| broken())?;
        }
        next = messages.message().await.map_err(|_| broken())?;
    }
    Ok(())
}

/// The stream, which counts for as long as it is read.
fn held(chunks: impl Stream<Item = Result<v1::LogChunk, Status>> + Send + 'static, permit: Permit) -> LogChunks {
    chunks
        .map(move |chunk| {
            let _ = &permit;
            chunk
        })
        .boxed()
}
