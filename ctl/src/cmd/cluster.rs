//! `cluster`: what concerns all of it.

use std::time::Duration;

use goat_proto::v1::{FreezeRequest, UpgradeClusterRequest};
use serde_json::json;

use super::Context;
use crate::client::request_id;
use crate::exit::Failure;
use crate::output::{local_time, rfc3339};

pub async fn upgrade(context: &Context) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let request = UpgradeClusterRequest { request_id: request_id() };
    let reply = client.unary(request, async |control, request| control.upgrade_cluster(request).await).await?;
    if out.is_json() {
        return out.json(&json!({ "before": reply.before, "format": reply.format }));
    }
    match reply.before == reply.format {
        true => out.line(format_args!("format {} is in use already, the newest that all managers read", reply.format)),
        false => out.line(format_args!(
            "format {} is in use from now on; managers that read only format {} are refused",
            reply.format, reply.before
        )),
    }
}

/// `length`: `None` stops the freeze that was announced.
pub async fn freeze(context: &Context, length: Option<Duration>) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let for_ms = length.map_or(0, |length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    let stop = length.is_none();
    let request = FreezeRequest { request_id: request_id(), for_ms, stop };
    let reply = client.unary(request, async |control, request| control.freeze(request).await).await?;
    if out.is_json() {
        return out.json(&json!({ "until": rfc3339(reply.until_ms) }));
    }
    if stop {
        return out.line(format_args!(
            "stopped: in two seconds the leases of workers that are ready are short again; one that is not heard keeps its own \
             until {} at the most",
            local_time(reply.until_ms)
        ));
    }
    // A worker holds the longer lease once it has had its next heartbeat granted.
    out.line(format_args!(
        "frozen until {}: in two seconds every worker that is ready can do without managers",
        local_time(reply.until_ms)
    ))
}
