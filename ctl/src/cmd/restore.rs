//! `operator snapshot restore`: services become again what a file says. What that means is core's to decide (`undo`); this
//! shows it, asks, and proposes it.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use goat_core::archive::Head;
use goat_core::model::ServiceSpec;
use goat_core::state::command::{ServiceChange as Change, divided};
use goat_core::undo::{Decision, Fate, Present, Undo, Wish, plan};
use goat_proto::convert;
use goat_proto::v1::{
    GetStatusRequest, ListServicesRequest, RestoreServicesRequest, Service, ServiceChange, ServiceSpec as WireSpec,
};
use serde_json::json;
use tonic::{Code, Response};

use super::Context;
use super::snapshot::load;
use crate::client::request_id;
use crate::exit::{Failure, say};
use crate::output::local_time;

const ATTEMPTS: usize = 5;

/// What is asked for.
#[derive(Debug)]
pub struct Restore {
    pub file: PathBuf,
    pub only: Vec<String>,
    pub exact: bool,
    pub is_other_allowed: bool,
    pub yes: bool,
}

pub async fn restore(context: &Context, restore: Restore) -> Result<(), Failure> {
    let (head, _, saved) = load(&restore.file)?;
    check_cluster(context, &restore, &head).await?;
    let wish = Wish { exact: restore.exact, only: restore.only };
    let look =
        async || plan(&saved, &present(context).await?, &wish).map_err(|unknown| Failure::failed(unknown.to_string()));
    let undo = look().await?;
    let changes = undo.changes();
    if !context.out.is_json() {
        show(context, &restore.file, &head, &undo)?;
    }
    if changes.is_empty() {
        return finish(context, &undo, None);
    }
    if !restore.yes
        && let Err(refused) = confirm(changes.len())
    {
        if context.out.is_json() {
            finish(context, &undo, None)?;
        }
        return Err(refused);
    }
    let index = carry_out(context, &undo, look).await?;
    finish(context, &undo, Some(index))
}

/// Proposes what was shown, in parts that fit into a command each; every part takes effect as a whole or not at all. A
/// service that is being removed is gone a moment later: as long as what is left to be done means the same, it is looked at
/// and proposed again.
async fn carry_out(
    context: &Context,
    shown: &Undo,
    look: impl AsyncFn() -> Result<Undo, Failure>,
) -> Result<u64, Failure> {
    let all = shown.changes().len();
    let mut done = BTreeSet::new();
    let mut changes = changes_but(shown, &done);
    for _ in 0..ATTEMPTS {
        match propose_parts(context, changes, &mut done).await {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(failure) if done.is_empty() => return Err(failure),
            Err(failure) => {
                return Err(
                    failure.with_hint(format!("{} of {all} services were restored: repeat the command", done.len()))
                );
            }
        }
        let now = look().await?;
        if !meant(shown, &done).eq(meant(&now, &done)) {
            break;
        }
        changes = changes_but(&now, &done);
    }
    let outcome = match done.len() {
        0 => "nothing was restored".to_owned(),
        count => format!("{count} of {all} services were restored"),
    };
    let text = format!("a service has changed since it was looked at, and {outcome}");
    Err(Failure::failed(text).with_hint("repeat the command, and see what it would do now"))
}

/// A change, and the name of its service.
type Named = (String, Change);

fn changes_but(undo: &Undo, done: &BTreeSet<String>) -> Vec<Named> {
    let left = undo.decisions.iter().filter(|decision| !done.contains(&decision.name));
    left.filter_map(|decision| Some((decision.name.clone(), decision.change.clone()?))).collect()
}

/// The index of the last part; None if a service of some part is no longer as it was seen. `done` names the services of the
/// parts that took effect.
async fn propose_parts(
    context: &Context,
    changes: Vec<Named>,
    done: &mut BTreeSet<String>,
) -> Result<Option<u64>, Failure> {
    let mut last = None;
    for part in divided(changes) {
        let (names, part): (Vec<_>, Vec<_>) = part.into_iter().unzip();
        last = propose(context, part).await?;
        if last.is_none() {
            break;
        }
        done.extend(names);
    }
    Ok(last)
}

/// The fate of each service that is left, as far as it makes a difference to the user who agreed to it.
fn meant(undo: &Undo, done: &BTreeSet<String>) -> impl Iterator<Item = (String, Fate)> {
    let left = undo.decisions.iter().filter(|decision| !done.contains(&decision.name));
    left.map(|decision| match &decision.fate {
        Fate::Stays => (decision.name.clone(), Fate::ComesBack),
        fate => (decision.name.clone(), fate.clone()),
    })
}

async fn check_cluster(context: &Context, restore: &Restore, head: &Head) -> Result<(), Failure> {
    let status = context
        .client
        .unary(GetStatusRequest::default(), async |control, request| control.get_status(request).await)
        .await?;
    if status.cluster_id == head.cluster_id || restore.is_other_allowed {
        return Ok(());
    }
    let Head { cluster_id: other, .. } = head;
    let text = format!("{} is of cluster {other}, and this is cluster {}", restore.file.display(), status.cluster_id);
    Err(Failure::failed(text).with_hint("to bring its services into this one all the same: --from-other-cluster"))
}

async fn present(context: &Context) -> Result<Vec<Present>, Failure> {
    let reply = context.client.list_services(ListServicesRequest::default()).await?;
    let read = |service: Service| -> Result<Present, convert::Error> {
        let spec = service.spec.unwrap_or_default();
        Ok(Present {
            id: convert::parse("id", &service.id)?,
            spec: ServiceSpec::try_from(spec)?,
            removed: service.removed,
            version: service.version,
        })
    };
    let present: Result<Vec<_>, _> = reply.services.into_iter().map(read).collect();
    present.map_err(|error| {
        Failure::failed(format!("a service that is there is not understood: {error}"))
            .with_hint("the managers may be of a newer version: use its goatctl")
    })
}

fn show(context: &Context, file: &Path, head: &Head, undo: &Undo) -> Result<(), Failure> {
    let out = context.out;
    let (made, index) = (local_time(head.made_at_ms), head.index);
    out.line(format_args!("{}: made {made} by manager {}, index {index}", file.display(), head.made_by))?;
    let is_quiet = |decision: &&Decision| matches!(decision.fate, Fate::Same | Fate::NotInFile);
    for decision in undo.decisions.iter().filter(|decision| !is_quiet(decision)) {
        out.line(format_args!("  {decision}"))?;
    }
    for decision in undo.decisions.iter().filter(is_quiet) {
        out.line(format_args!("  {decision}"))?;
    }
    Ok(())
}

/// Asks on a terminal. Without a yes nothing is changed, and the command has failed: whoever called it must not believe
/// that services are restored.
fn confirm(changes: usize) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        let hint = "repeat with --yes to do it";
        return Err(Failure::usage("nothing was changed: there is no terminal to ask for a yes").with_hint(hint));
    }
    say(&format!("Change {changes} services? [y/N]"));
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed: the answer was not yes")),
    }
}

/// The index; None where a service is not any more as it was seen.
async fn propose(context: &Context, changes: Vec<Change>) -> Result<Option<u64>, Failure> {
    let change = |change: Change| ServiceChange {
        id: change.id.to_string(),
        seen_version: change.seen_version,
        spec: change.spec.as_deref().map(WireSpec::from),
    };
    let request =
        RestoreServicesRequest { request_id: request_id(), changes: changes.into_iter().map(change).collect() };
    // As an answer, for it is one.
    let reply = context.client.unary(request, async |control, request| match control.restore_services(request).await {
        Ok(reply) => Ok(Response::new(Some(reply.into_inner().index))),
        Err(status) if status.code() == Code::Aborted => Ok(Response::new(None)),
        Err(status) => Err(status),
    });
    reply.await
}

fn finish(context: &Context, undo: &Undo, index: Option<u64>) -> Result<(), Failure> {
    let changes = undo.changes().len();
    if context.out.is_json() {
        let decisions = undo.decisions.iter().map(|decision| {
            let fields = if let Fate::ChangedBack(fields) = &decision.fate { fields.as_slice() } else { &[] };
            json!({ "service": decision.name, "fate": decision.fate.word(), "fields": fields })
        });
        let decisions: Vec<_> = decisions.collect();
        return context.out.json(&json!({ "decisions": decisions, "index": index }));
    }
    match index {
        Some(index) => context.out.line(format_args!("restored: {changes} services changed, index {index}")),
        None => context.out.line(format_args!("all services are as in the file: nothing to do")),
    }
}
