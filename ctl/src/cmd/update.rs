//! `service update`. Its flags are changes and not a whole spec: if somebody else changes the service between the read and the
//! write, they are made to what is there then, unless both change the same thing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use goat_proto::v1::{Service, ServiceReply, ServiceSpec, UpdateServiceRequest};
use tokio::time::{Instant, sleep};
use tonic::{Code, Response};

use super::Context;
use super::service::{converge, get};
use crate::cli::{ConvergeFlags, ReadFlags};
use crate::client::request_id;
use crate::exit::{Failure, say};
use crate::fields::in_flags;
use crate::spec::{SpecFlags, remove_keys};
use crate::wait::ChangeKind;

/// Before a change is made again that somebody else has forestalled; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_millis(500);

/// Fields that an update can change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    pub image: Option<String>,
    pub env_rm: Vec<String>,
    pub label_rm: Vec<String>,
    pub flags: SpecFlags,
    pub args: Vec<String>,
}

impl Patch {
    /// The spec with the changes.
    fn applied(&self, mut spec: ServiceSpec) -> Result<ServiceSpec, Failure> {
        remove_keys(&mut spec.env, &self.env_rm, "--env-rm")?;
        remove_keys(&mut spec.labels, &self.label_rm, "--label-rm")?;
        self.flags.clone().apply(&mut spec)?;
        if let Some(image) = &self.image {
            spec.image.clone_from(image);
        }
        if !self.args.is_empty() {
            spec.args.clone_from(&self.args);
        }
        Ok(spec)
    }
}

pub async fn update(context: &Context, reference: String, patch: Patch, flags: &ConvergeFlags) -> Result<(), Failure> {
    if patch == Patch::default() {
        let hint = "give at least one option, or arguments after --; `goatctl service update --help` lists them";
        return Err(Failure::usage(format!("nothing is to be changed in {reference:?}")).with_hint(hint));
    }
    patch.flags.warn_of_bytes();
    let (before, after, reply) = write(context, &reference, &patch).await?;
    let name = after.name.clone();
    converge(context, &reply, &name, (ChangeKind::Update, flags)).await?;
    note_what_waits(&before, &after);
    Ok(())
}

/// Reads, changes and writes until nobody has changed the service in between, or the time of one request is up. Returns the
/// service as it was, its new spec, and the answer.
async fn write(
    context: &Context,
    reference: &str,
    patch: &Patch,
) -> Result<(Service, ServiceSpec, ServiceReply), Failure> {
    let deadline = Instant::now() + context.client.timeout();
    let mut first: Option<(ServiceSpec, ServiceSpec)> = None;
    let mut pause = RETRY_FIRST;
    loop {
        let before = get(context, reference.to_owned(), &ReadFlags { stale: false }).await?;
        let seen = before.spec.clone().unwrap_or_default();
        let wanted = patch.applied(seen.clone())?;
        let (first_seen, first_wanted) = first.get_or_insert_with(|| (seen.clone(), wanted.clone()));
        let conflicts = conflicts(first_seen, first_wanted, &seen);
        if !conflicts.is_empty() {
            let text = format!("{} was changed by somebody else meanwhile: {}", wanted.name, conflicts.join(", "));
            return Err(Failure::failed(text).with_hint("nothing was changed; look at it and repeat the command"));
        }
        if let Some(reply) = write_once(context, reference, before.version, &wanted).await? {
            return Ok((before, wanted, reply));
        }
        if Instant::now() + pause >= deadline {
            let text = format!("{} is changed by others all the time", wanted.name);
            return Err(Failure::failed(text).with_hint("nothing was changed; repeat the command, or raise --timeout"));
        }
        // Those that lost against the same change must not come back together.
        sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// `None` if the service is no longer as it was seen.
async fn write_once(
    context: &Context,
    reference: &str,
    seen_version: u64,
    wanted: &ServiceSpec,
) -> Result<Option<ServiceReply>, Failure> {
    let request = UpdateServiceRequest {
        request_id: request_id(),
        // As it was typed: to read takes the beginning of an id, and to change does not.
        reference: reference.to_owned(),
        // What others changed between the read and the write must not be undone.
        seen_version: Some(seen_version),
        spec: Some(wanted.clone()),
    };
    // As an answer, for it is one.
    let reply = context.client.unary(request, async |control, request| match control.update_service(request).await {
        Ok(reply) => Ok(Response::new(Some(reply.into_inner()))),
        Err(status) if status.code() == Code::Aborted => Ok(Response::new(None)),
        Err(status) => Err(status),
    });
    reply.await.map_err(in_flags)
}

/// Fields that this command changes and that another client has changed since the first read.
fn conflicts(first_seen: &ServiceSpec, first_wanted: &ServiceSpec, seen: &ServiceSpec) -> Vec<String> {
    let (was, wanted, is) = (parts(first_seen), parts(first_wanted), parts(seen));
    let keys: BTreeSet<&String> = was.keys().chain(wanted.keys()).chain(is.keys()).collect();
    let is_conflict = |key: &&String| {
        was.get(*key) != wanted.get(*key) && was.get(*key) != is.get(*key) && wanted.get(*key) != is.get(*key)
    };
    keys.into_iter().filter(is_conflict).cloned().collect()
}

/// The parts of a spec that are changed independently of each other, by name.
fn parts(spec: &ServiceSpec) -> BTreeMap<String, String> {
    let limits = spec.limits.unwrap_or_default();
    let reservations = spec.reservations.unwrap_or_default();
    let restart = spec.restart.clone().unwrap_or_default();
    let fixed = [
        ("image", spec.image.clone()),
        ("--driver", spec.driver.clone()),
        ("--command", format!("{:?}", spec.command)),
        ("arguments", format!("{:?}", spec.args)),
        ("--replicas", spec.replicas.to_string()),
        ("--publish", format!("{:?}", spec.ports)),
        ("--mount", format!("{:?}", spec.mounts)),
        ("--cpu", reservations.cpu_millis.to_string()),
        ("--memory", reservations.memory_bytes.to_string()),
        ("--disk", reservations.disk_bytes.to_string()),
        ("--limit-cpu", limits.cpu_millis.to_string()),
        ("--limit-memory", limits.memory_bytes.to_string()),
        ("--restart", format!("{} {:?}", restart.condition, restart.max_attempts)),
        ("--restart-delay", format!("{:?}", restart.delay_ms)),
        ("--constraint", format!("{:?}", spec.constraints)),
        ("--strategy", spec.strategy.clone()),
        ("--max-per-node", spec.max_per_node.to_string()),
        ("--on-disconnect", spec.on_disconnect.clone()),
        ("--stop-grace", format!("{:?}", spec.stop_grace_ms)),
        ("the health check", format!("{:?}", spec.health)),
    ];
    let env = spec.env.iter().map(|(key, value)| (format!("--env {key}"), value.clone()));
    let labels = spec.labels.iter().map(|(key, value)| (format!("--label {key}"), value.clone()));
    fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(env).chain(labels).collect()
}

/// Says what was accepted and does not hold yet for tasks that run.
fn note_what_waits(before: &Service, after: &ServiceSpec) {
    let Some(spec) = &before.spec else { return };
    let was = parts(spec);
    let is = parts(after);
    let changed: BTreeSet<&str> =
        was.iter().chain(&is).filter(|(key, _)| was.get(*key) != is.get(*key)).map(|(key, _)| key.as_str()).collect();
    let keeps_tasks = |key: &&str| {
        key.starts_with("--label ")
            || [
                "--replicas",
                "--restart",
                "--restart-delay",
                "--constraint",
                "--strategy",
                "--max-per-node",
                "--on-disconnect",
            ]
            .contains(key)
    };
    // Anything else replaces the tasks, and then the labels are new as well.
    if after.replicas > 0 && changed.iter().any(|key| key.starts_with("--label ")) && changed.iter().all(keeps_tasks) {
        say("note: tasks that run keep their labels; those that are started from now on have the new ones");
    }
    if changed.contains("--stop-grace") {
        say("note: the tasks that were replaced were stopped with the grace that they were started with");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(image: &str, env: &[(&str, &str)]) -> ServiceSpec {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ServiceSpec { image: image.into(), env, ..ServiceSpec::default() }
    }

    #[test]
    fn two_changes_conflict_only_if_both_change_the_same_thing_and_not_to_the_same_value() {
        let (was, wanted) = (spec("a:1", &[]), spec("a:2", &[("K1", "1")]));
        assert!(conflicts(&was, &wanted, &was).is_empty());
        assert!(conflicts(&was, &wanted, &spec("a:1", &[("K2", "2")])).is_empty());
        assert!(conflicts(&was, &wanted, &wanted).is_empty());
        assert_eq!(conflicts(&was, &wanted, &spec("a:3", &[("K1", "2")])), ["--env K1", "image"]);
        assert_eq!(conflicts(&spec("a:1", &[("K", "1")]), &spec("a:1", &[]), &spec("a:1", &[("K", "2")])), ["--env K"]);
    }
}
