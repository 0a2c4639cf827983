//! A task's output on its way to whoever asked the leader for it. Each stream has a connection of its own: a reader that stops
//! reading stops neither the session nor another stream.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::logs::padded;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::{self, LogsWanted, PushLogsMessage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use tracing::debug;

use super::Parts;
use super::ask::connect;
use crate::runtime::{Error, LogChunk, LogOptions, LogStream};

/// For finding the task's output; reading it has no limit.
const OPEN: Duration = Duration::from_secs(20);
/// Of one message.
const MAX_CHUNK_BYTES: usize = 64 << 10;
/// Pieces that become one message if they are there at the same time.
const MAX_MERGED: usize = 256;
/// Messages that wait to be sent.
const QUEUE: usize = 4;

/// Sends the output that is wanted, until its end or until the leader wants no more.
pub(super) async fn push(wanted: LogsWanted, manager: String, parts: Parts) {
    let stream_id = wanted.stream_id.clone();
    let first = PushLogsMessage { stream_id: stream_id.clone(), ..Default::default() };
    let messages = match tokio::time::timeout(OPEN, open(wanted, parts.clone())).await {
        Ok(Ok(output)) => messages(stream_id.clone(), output),
        Ok(Err(problem)) => futures::stream::iter([PushLogsMessage { error: problem, ..first.clone() }]).boxed(),
        Err(_) => {
            let error = "the runtime does not answer".to_owned();
            futures::stream::iter([PushLogsMessage { error, ..first.clone() }]).boxed()
        }
    };
    // An empty message first, so that the stream is known before there is any output.
    let messages = futures::stream::iter([first]).chain(messages).boxed();
    let sent = match connect(&manager, &parts).await {
        Ok(channel) => send(channel, messages).await.map_err(|status| status.message().to_owned()),
        Err(problem) => Err(problem),
    };
    if let Err(error) = sent {
        debug!(stream_id, error, "a log stream ended");
    }
}

/// Until the output ends, or the leader has had enough and answers.
async fn send(channel: Channel, mut messages: BoxStream<'static, PushLogsMessage>) -> Result<(), Status> {
    let mut client = DispatcherClient::new(channel).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (to_leader, queued) = mpsc::channel(QUEUE);
    let forward = async move {
        while let Some(message) = messages.next().await {
            if to_leader.send(message).await.is_err() {
                return;
            }
        }
    };
    let mut pushed = std::pin::pin!(client.push_logs(ReceiverStream::new(queued)));
    // A task that says nothing for long must not keep a stream that nobody wants any more.
    let answer = tokio::select! {
        biased;
        answer = &mut pushed => answer,
        () = forward => pushed.await,
    };
    answer.map(|_| ())
}

fn open(wanted: LogsWanted, parts: Parts) -> BoxFuture<'static, Result<LogStream, String>> {
    opening(wanted, parts).boxed()
}

async fn opening(wanted: LogsWanted, parts: Parts) -> Result<LogStream, String> {
    let task = wanted.task_id.parse().map_err(|error| format!("task_id: {error}"))?;
    let found = parts.reconciler.find(task).await.map_err(|gone| gone.to_string())?;
    let meta = found.ok_or_else(|| format!("task {task} is not on this worker any more"))?;
    let runtime = parts.runtimes.get(meta.driver).ok_or("its runtime is not enabled")?;
    let options = LogOptions { follow: wanted.follow, tail: wanted.tail, timestamps: wanted.timestamps };
    runtime.logs(&meta, options).await.map_err(|error| error.to_string())
}

fn messages(stream_id: String, output: LogStream) -> BoxStream<'static, PushLogsMessage> {
    let messages = output.ready_chunks(MAX_MERGED).flat_map(move |pieces| {
        let message = |(chunk, error)| PushLogsMessage { stream_id: stream_id.clone(), chunk, error };
        let messages: Vec<PushLogsMessage> = merged(pieces)
            .into_iter()
            .flat_map(|piece| match piece {
                Ok(chunk) => split(chunk).map(|chunk| message((Some(padded(chunk)), String::new()))).collect(),
                Err(error) => vec![message((None, error))],
            })
            .collect();
        futures::stream::iter(messages)
    });
    messages.boxed()
}

/// Pieces of one stream that follow each other become one: a runtime may give out each line by itself.
fn merged(pieces: Vec<Result<LogChunk, Error>>) -> Vec<Result<LogChunk, String>> {
    let mut merged: Vec<Result<LogChunk, String>> = Vec::new();
    let mut joined = Vec::new();
    for piece in pieces {
        match (piece, merged.last_mut()) {
            (Ok(next), Some(Ok(last))) if next.is_stderr == last.is_stderr => {
                if joined.is_empty() {
                    joined.extend_from_slice(&last.data);
                }
                joined.extend_from_slice(&next.data);
            }
            (next, _) => {
                close(&mut joined, &mut merged);
                merged.push(next.map_err(|error| error.to_string()));
            }
        }
    }
    close(&mut joined, &mut merged);
    merged
}

/// Gives the last piece all that was joined to it.
fn close(joined: &mut Vec<u8>, merged: &mut [Result<LogChunk, String>]) {
    if let (false, Some(Ok(last))) = (joined.is_empty(), merged.last_mut()) {
        last.data = std::mem::take(joined).into();
    }
}

fn split(mut chunk: LogChunk) -> impl Iterator<Item = v1::LogChunk> {
    let stream = if chunk.is_stderr { "stderr" } else { "stdout" };
    std::iter::from_fn(move || {
        if chunk.data.is_empty() {
            return None;
        }
        let data = chunk.data.split_to(chunk.data.len().min(MAX_CHUNK_BYTES));
        Some(v1::LogChunk { data, stream: stream.into(), ..Default::default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_there_at_the_same_time_are_sent_as_one_and_keep_their_order() {
        let chunk = |is_stderr, text: &'static str| Ok(LogChunk { is_stderr, data: text.into() });
        let pieces = vec![
            chunk(false, "a\n"),
            chunk(false, "b\n"),
            chunk(true, "c\n"),
            chunk(false, "d\n"),
            chunk(false, "e\n"),
        ];
        let merged: Vec<_> = merged(pieces)
            .into_iter()
            .map(|piece| piece.map(|chunk| (chunk.is_stderr, String::from_utf8_lossy(&chunk.data).into_owned())))
            .collect();
        let expected = [(false, "a\nb\n"), (true, "c\n"), (false, "d\ne\n")];
        assert_eq!(merged, expected.map(|(is_stderr, text)| Ok((is_stderr, text.to_owned()))));
    }
}
