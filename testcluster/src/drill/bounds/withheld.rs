//! Requests that announce a message and withhold the end of it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;

/// Until one that was ended by the other side is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// A message that announces `announced` bytes and holds fewer.
pub fn message(announced: usize, sent: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(5 + sent);
    message.put_u8(0);
    message.put_u32(u32::try_from(announced).unwrap_or(u32::MAX));
    message.put_bytes(0, sent);
    message.freeze()
}

/// Sends such a request, and again whenever it was ended, until dropped.
pub async fn hold(mut channel: Channel, path: &'static str, message: Bytes) {
    loop {
        let begun = stream::iter([Ok::<_, Infallible>(Frame::data(message.clone()))]);
        let body = Body::new(StreamBody::new(begun.chain(stream::pending())));
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .expect("it is a request");
        if futures::future::poll_fn(|context| channel.poll_ready(context)).await.is_ok() {
            // However it is answered, it goes on.
            let _ = channel.call(request).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
