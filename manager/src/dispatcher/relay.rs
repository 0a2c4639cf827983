//! Passes a session, or a log stream, on to the leader: for a worker that reaches this manager and not the leader.
//!
//! Nothing is looked at on the way. The leader judges as if the worker were there itself, its redirect included where it
//! leads no more.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use goat_proto::v1::{self, worker_message};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::Messages;
use crate::raft::Group;

/// For the leader's first word.
const OPEN: Duration = Duration::from_secs(2);

/// The session as the leader holds it, until either side ends it or this manager stops.
pub(super) async fn session(
    group: &Group,
    leader: &str,
    hello: v1::Hello,
    from_worker: Streaming<v1::WorkerMessage>,
    stopping: &CancellationToken,
) -> Result<Response<Messages>, Status> {
    // Once only: the leader may have changed, and two managers must not send a session round and round.
    let hello = worker_message::Message::Hello(v1::Hello { relay: false, ..hello });
    let first = v1::WorkerMessage { message: Some(hello) };
    let messages = stream::once(async { first }).chain(until_broken(from_worker));
    let mut client = group.peers().dispatcher(leader).map_err(|error| Status::unavailable(error.to_string()))?;
    let opened = tokio::time::timeout(OPEN, client.session(messages)).await;
    let from_leader = opened.map_err(|_| Status::unavailable("the leader does not answer"))??.into_inner();
    Ok(Response::new(from_leader.take_until(stopping.clone().cancelled_owned()).boxed()))
}

/// What the worker says, until it ends or its connection breaks.
fn until_broken<T: Send + 'static>(from_worker: Streaming<T>) -> impl Stream<Item = T> + Send {
    let unbroken = from_worker.take_while(|message| std::future::ready(message.is_ok()));
    unbroken.filter_map(|message| std::future::ready(message.ok()))
}

/// A log stream, until its end. It has a connection of its own, so that a reader that stops reading stops nothing else.
pub(super) async fn logs(
    group: &Group,
    leader: &str,
    from_worker: Streaming<v1::PushLogsMessage>,
) -> Result<Response<v1::PushLogsReply>, Status> {
    let mut client =
        group.peers().dispatcher_for_stream(leader).map_err(|error| Status::unavailable(error.to_string()))?;
    client.push_logs(with_break(from_worker)).await
}

/// What the worker sends. If its connection breaks, the last message says so: the leader must not take the output for whole.
fn with_break(from_worker: Streaming<v1::PushLogsMessage>) -> impl Stream<Item = v1::PushLogsMessage> + Send {
    let broken =
        |_| v1::PushLogsMessage { error: "the log stream from the task's worker broke".into(), ..Default::default() };
    from_worker.map(move |message| message.unwrap_or_else(broken))
}
