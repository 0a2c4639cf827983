//! `task logs`: a task's output, each stream to the one of the same name.

use std::time::Duration;

use goat_proto::v1::TaskLogsRequest;
use tokio::time::sleep;

use super::Context;
use crate::exit::{Failure, say};
use crate::pipe::{Piece, Pipe};

/// Between two streams, so that a manager that ends each at once is not asked without a pause.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

pub async fn logs(context: &Context, mut request: TaskLogsRequest) -> Result<(), Failure> {
    let client = &context.client;
    if context.out.is_json() {
        return Err(Failure::usage("a task's output has no JSON form").with_hint("leave out -o json"));
    }
    let mut pipe = Pipe::new();
    loop {
        let mut chunks =
            client.stream(request.clone(), async |control, request| control.task_logs(request).await).await?;
        let broken = loop {
            match chunks.message().await {
                Ok(Some(chunk)) if chunk.stream == "stderr" => pipe.write(Piece::Stderr(chunk.data.into())).await?,
                Ok(Some(chunk)) => pipe.write(Piece::Stdout(chunk.data.into())).await?,
                // The task has ended, and this was all.
                Ok(None) => return pipe.finish().await,
                Err(status) => break status,
            }
        };
        let is_passing = broken.code() == tonic::Code::Unavailable || std::error::Error::source(&broken).is_some();
        if !is_passing {
            // The output that came before is printed before the error.
            pipe.finish().await?;
            return Err(Failure::from_status(&broken));
        }
        if !request.follow {
            pipe.finish().await?;
            return Err(
                Failure::failed("the connection broke before the end of the output").with_hint("repeat the command")
            );
        }
        // Where it broke off is not known; to begin anew would print everything twice.
        say("the connection broke; output from here on (some lines may be missing)");
        request.tail = Some(0);
        client.expect_interruptions();
        sleep(REOPEN_PAUSE).await;
    }
}
