//! What a spec must satisfy before it enters the state. Each refusal names the field and says what is right.

mod health;
mod mounts;
pub mod node;
mod submitted;

use std::collections::BTreeSet;

use super::{Driver, Mode, Resources, RestartCondition, ServiceSpec};
use crate::codec;

pub use submitted::validate_submitted;

/// A spec encoded larger than this is refused.
pub const MAX_SPEC_BYTES: usize = 64 << 10;
/// Most replicas of one service.
pub const MAX_REPLICAS: u32 = 100_000;
const MAX_NAME_CHARS: usize = 63;
const MAX_CPU_MILLIS: u64 = 1_000_000;
const MAX_BYTES: u64 = 1 << 46;
/// Docker refuses a container with less.
const MIN_MEMORY_LIMIT_BYTES: u64 = 6 << 20;
const MAX_WAIT_MS: u64 = 24 * 3_600_000;
const MAX_GRACE_MS: u64 = 3_600_000;

/// The spec's field `field` is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    pub field: &'static str,
    pub problem: String,
}

fn ensure(holds: bool, field: &'static str, problem: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field, problem: problem() }) }
}

/// Checks a spec as it is applied.
pub fn validate(spec: &ServiceSpec) -> Result<(), Invalid> {
    let size = codec::encode(spec).len();
    ensure(size <= MAX_SPEC_BYTES, "spec", || {
        format!(
            "{size} bytes are over the limit of {MAX_SPEC_BYTES}; move large values out of the environment and labels"
        )
    })?;
    validate_name(&spec.name)?;
    validate_what_runs(spec)?;
    let Mode::Replicated { replicas } = spec.mode;
    ensure(replicas <= MAX_REPLICAS, "replicas", || format!("{replicas} is over the limit of {MAX_REPLICAS}"))?;
    validate_resources("reservations", spec.reservations)?;
    validate_resources("limits", spec.limits)?;
    validate_limits(spec)?;
    validate_env(spec)?;
    validate_ports(spec)?;
    mounts::validate(spec)?;
    validate_restart(spec)?;
    validate_placement(spec)?;
    health::validate(spec.health.as_ref())?;
    ensure(spec.stop_grace_ms <= MAX_GRACE_MS, "stop_grace_ms", || {
        format!("{} ms is over the limit of one hour", spec.stop_grace_ms)
    })
}

/// A DNS label: it ends up in container names.
pub fn validate_name(name: &str) -> Result<(), Invalid> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME_CHARS
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure(fits, "name", || {
        format!(
            "{:?} is not a name: 1 to {MAX_NAME_CHARS} of a-z, 0-9 and -, neither first nor last a -",
            name.chars().take(80).collect::<String>()
        )
    })
}

fn validate_what_runs(spec: &ServiceSpec) -> Result<(), Invalid> {
    let no_nul = |text: &String| !text.contains('\0');
    ensure(spec.command.iter().all(no_nul), "command", || "contains a NUL byte".into())?;
    ensure(spec.args.iter().all(no_nul), "args", || "contains a NUL byte".into())?;
    match spec.driver {
        Driver::Docker => validate_image(&spec.image),
        Driver::Process => {
            ensure(spec.image.is_empty(), "image", || {
                format!("the process driver runs no image; remove {:?}, or use the docker driver", spec.image)
            })?;
            ensure(spec.command.first().is_some_and(|program| !program.is_empty()), "command", || {
                "the process driver needs a program to run".into()
            })
        }
    }
}

/// `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as in the distribution project's reference grammar.
fn validate_image(image: &str) -> Result<(), Invalid> {
    let wrong = |why: &str| {
        Err(Invalid {
            field: "image",
            problem: format!(
                "{:?} is not an image reference ({why}): [HOST[:PORT]/]NAME[:TAG][@DIGEST] is expected, as in alpine:3.20",
                image.chars().take(120).collect::<String>()
            ),
        })
    };
    if image.is_empty() {
        return wrong("it is empty");
    }
    if image.len() > 512 {
        return wrong("it is longer than 512 characters");
    }
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            return wrong("its digest is not sha256: and 64 hexadecimal digits");
        }
    }
    let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[last_slash..].rfind(':') {
        Some(at) => (&rest[..last_slash + at], Some(&rest[last_slash + at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if tag.is_empty() || tag.len() > 128 || !tag.chars().all(word) || tag.starts_with(['.', '-']) {
            return wrong("its tag is malformed");
        }
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
        let name_fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        if !name_fits || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return wrong("its host is malformed");
        }
    }
    let part_fits = |part: &&str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-'))
    };
    if parts.iter().all(part_fits) { Ok(()) } else { wrong("its name is malformed; names are in lower case") }
}

fn validate_resources(field: &'static str, resources: Resources) -> Result<(), Invalid> {
    ensure(resources.cpu_millis <= MAX_CPU_MILLIS, field, || {
        format!("{} thousandths of a CPU are more than any machine has", resources.cpu_millis)
    })?;
    let most = resources.memory_bytes.max(resources.disk_bytes);
    ensure(most <= MAX_BYTES, field, || format!("{most} bytes are more than any machine has"))
}

fn validate_limits(spec: &ServiceSpec) -> Result<(), Invalid> {
    let (limits, reserved) = (spec.limits, spec.reservations);
    ensure(limits.memory_bytes == 0 || limits.memory_bytes >= MIN_MEMORY_LIMIT_BYTES, "limits.memory_bytes", || {
        format!("{} is below {MIN_MEMORY_LIMIT_BYTES}, the least that a container can start with", limits.memory_bytes)
    })?;
    ensure(limits.memory_bytes == 0 || limits.memory_bytes >= reserved.memory_bytes, "limits.memory_bytes", || {
        format!("{} is below the reservation of {}; raise it", limits.memory_bytes, reserved.memory_bytes)
    })?;
    ensure(limits.cpu_millis == 0 || limits.cpu_millis >= reserved.cpu_millis, "limits.cpu_millis", || {
        format!("{} is below the reservation of {}; raise it", limits.cpu_millis, reserved.cpu_millis)
    })
}

fn validate_env(spec: &ServiceSpec) -> Result<(), Invalid> {
    for (key, value) in &spec.env {
        ensure(!key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0'), "env", || {
            format!("{key:?} is no variable: a name without = and a value without NUL bytes are expected")
        })?;
        ensure(!key.starts_with("GOAT_"), "env", || format!("{key} is set by GOAT itself; choose another name"))?;
    }
    Ok(())
}

fn validate_ports(spec: &ServiceSpec) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for port in &spec.ports {
        ensure(port.host_port != 0 && port.container_port != 0, "ports", || "port 0 cannot be published".into())?;
        ensure(seen.insert((port.host_port, port.protocol)), "ports", || {
            format!("host port {} is published twice", port.host_port)
        })?;
    }
    Ok(())
}

fn validate_restart(spec: &ServiceSpec) -> Result<(), Invalid> {
    let restart = &spec.restart;
    ensure(
        restart.max_attempts.is_none() || restart.condition == RestartCondition::OnFailure,
        "restart.max_attempts",
        || "only goes with the condition on-failure".into(),
    )?;
    ensure(restart.max_delay_ms <= MAX_WAIT_MS, "restart.max_delay_ms", || {
        format!("{} ms is over the limit of one day", restart.max_delay_ms)
    })?;
    ensure(restart.delay_ms <= restart.max_delay_ms, "restart.delay_ms", || {
        format!("{} ms is above restart.max_delay_ms ({} ms)", restart.delay_ms, restart.max_delay_ms)
    })?;
    ensure(restart.stable_after_ms <= MAX_WAIT_MS, "restart.stable_after_ms", || {
        format!("{} ms is over the limit of one day", restart.stable_after_ms)
    })
}

fn validate_placement(spec: &ServiceSpec) -> Result<(), Invalid> {
    for constraint in &spec.placement.constraints {
        ensure(!constraint.label.is_empty(), "constraints", || {
            "a constraint needs a label: LABEL==VALUE or LABEL!=VALUE".into()
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Port;

    fn valid() -> ServiceSpec {
        ServiceSpec { name: "web".into(), image: "alpine:3.20".into(), ..ServiceSpec::default() }
    }

    fn refused(change: impl FnOnce(&mut ServiceSpec)) -> String {
        let mut spec = valid();
        change(&mut spec);
        validate(&spec).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_plain_spec_is_accepted() {
        assert_eq!(validate(&valid()), Ok(()));
    }

    #[test]
    fn images_are_told_from_what_is_none() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        for image in ["a", "a:1", "a/b:latest", "localhost:5000/a/b:1.0", "r.example/a_b/c-d", &digest] {
            assert_eq!(validate_image(image), Ok(()), "{image}");
        }
        for image in ["", ":1", "A", "a:", "a:b:c", "a//b", "-a", "a b", "host:99999/a", "a@sha256:00", "a:-x", "é"] {
            assert!(validate_image(image).is_err(), "{image}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_what_is_right() {
        assert_eq!(
            refused(|spec| spec.name = "Web_1".into()),
            "name: \"Web_1\" is not a name: 1 to 63 of a-z, 0-9 and -, neither first nor last a -"
        );
        assert_eq!(
            refused(|spec| spec.limits.memory_bytes = 1),
            "limits.memory_bytes: 1 is below 6291456, the least that a container can start with"
        );
        assert_eq!(
            refused(|spec| {
                let port = Port { host_port: 80, container_port: 80, protocol: Default::default() };
                spec.ports = vec![port, port];
            }),
            "ports: host port 80 is published twice"
        );
        assert_eq!(
            refused(|spec| spec.restart.max_attempts = Some(3)),
            "restart.max_attempts: only goes with the condition on-failure"
        );
        assert!(refused(|spec| spec.env.insert("A".into(), "x".repeat(70_000)).map_or((), drop)).starts_with("spec: "));
    }
}
