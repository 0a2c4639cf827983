//! `service rm`: asks for the removal of each, then waits for all.

use goat_proto::v1::{RemoveServiceRequest, ServiceReply};
use serde_json::json;

use super::Context;
use super::service::named;
use crate::cli::WaitFlags;
use crate::client::request_id;
use crate::exit::{Failure, say};
use crate::wait::{Removed, Waited, wait};

/// All are asked for before any is waited for, and one Ctrl-C ends the wait for all. Those that cannot be removed are told
/// at the end, and do not keep the others.
pub async fn rm(context: &Context, references: Vec<String>, flags: &WaitFlags) -> Result<(), Failure> {
    let (mut failures, mut accepted) = (Vec::new(), Vec::new());
    for reference in references {
        match ask_to_remove(context, &reference, flags).await {
            Ok(reply) => accepted.push((named(&reply.name, &reference).to_owned(), reply)),
            Err(failure) => failures.push(failure),
        }
    }
    let mut removed = Vec::new();
    let mut is_detached = flags.detach;
    for (name, reply) in accepted {
        let waited = if is_detached { Ok(Waited::Detached) } else { wait_removed(context, &name, &reply, flags).await };
        match waited {
            Ok(waited) => {
                is_detached |= waited == Waited::Detached;
                print_removed(context, &name, &reply.id, waited, flags)?;
                removed.push(json!({ "id": reply.id, "name": name, "removed": waited == Waited::Reached }));
            }
            Err(failure) => failures.push(failure),
        }
    }
    if context.out.is_json() {
        context.out.json(&removed)?;
    }
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| say(&failure.to_string()));
    Err(last)
}

async fn ask_to_remove(context: &Context, reference: &str, flags: &WaitFlags) -> Result<ServiceReply, Failure> {
    let (client, out) = (&context.client, context.out);
    let request = RemoveServiceRequest { request_id: request_id(), reference: reference.to_owned() };
    let reply = client.unary(request, async |control, request| control.remove_service(request).await).await?;
    if flags.quiet {
        out.line(&reply.id)?;
    }
    Ok(reply)
}

async fn wait_removed(
    context: &Context,
    name: &str,
    reply: &ServiceReply,
    flags: &WaitFlags,
) -> Result<Waited, Failure> {
    let mut goal = Removed::new(&reply.id, name);
    wait(&context.client, &mut goal, flags.wait_timeout, reply.index, flags.quiet).await
}

fn print_removed(context: &Context, name: &str, id: &str, waited: Waited, flags: &WaitFlags) -> Result<(), Failure> {
    if flags.quiet || context.out.is_json() {
        return Ok(());
    }
    let state = if waited == Waited::Reached { "removed" } else { "being removed" };
    context.out.line(format_args!("{id}  {name}  {state}"))
}
