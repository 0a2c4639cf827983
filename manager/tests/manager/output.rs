//! What tasks print, from their worker to whoever asks any manager.

use goat_proto::v1::{LogChunk, PushLogsMessage, TaskLogsRequest, manager_message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::Cluster;
use crate::sessions::with_a_task;

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_from_the_worker_through_any_manager() {
    let cluster = Cluster::new(26);
    let (mut worker, leader, task) = with_a_task(&cluster, "keep").await;
    for at in 0..3 {
        let mut client = cluster.managers[at].client().await.expect("it runs");
        let request = TaskLogsRequest { reference: task.task_id.clone(), ..TaskLogsRequest::default() };
        let asked = tokio::spawn(async move { client.task_logs(request).await });
        let wanted = loop {
            if let manager_message::Message::Logs(wanted) = worker.next().await.expect("the session lives") {
                break wanted;
            }
        };
        let (pieces, stream) = mpsc::channel(4);
        for data in ["one ", "two"] {
            let chunk = LogChunk { data: data.into(), stream: "stdout".into(), ..Default::default() };
            let message =
                PushLogsMessage { stream_id: wanted.stream_id.clone(), chunk: Some(chunk), error: String::new() };
            pieces.send(message).await.expect("there is room");
        }
        drop(pieces);
        let mut pusher = cluster.managers[leader].dispatcher().await.expect("it runs");
        let pushed = tokio::spawn(async move { pusher.push_logs(ReceiverStream::new(stream)).await });
        let mut output = asked.await.expect("no panic").expect("it answers").into_inner();
        let mut text = Vec::new();
        while let Some(chunk) = output.message().await.expect("it ends well") {
            text.extend_from_slice(&chunk.data);
        }
        assert_eq!(text, b"one two");
        pushed.await.expect("no panic").expect("it was taken");
    }
}
