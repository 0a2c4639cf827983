//! Fields of a spec, as managers name them in refusals, and the flags from which goatctl made them.

use crate::exit::{Exit, Failure};

/// A field, and its flag. The longer of two fields with one beginning comes first.
const FLAGS: &[(&str, &str)] = &[
    ("limits.memory_bytes", "--limit-memory"),
    ("limits.cpu_millis", "--limit-cpu"),
    ("limits", "--limit-cpu, --limit-memory"),
    ("reservations", "--cpu, --memory, --disk"),
    ("health.interval_ms", "--health-interval"),
    ("health.timeout_ms", "--health-timeout"),
    ("health.start_period_ms", "--health-start-period"),
    ("health.retries", "--health-retries"),
    ("health.http.port", "--health-http"),
    ("health.http.path", "--health-http"),
    ("health.tcp.port", "--health-tcp"),
    ("health.command", "--health-cmd"),
    ("restart.max_attempts", "--restart"),
    ("restart.max_delay_ms", "--restart-delay"),
    ("restart.delay_ms", "--restart-delay"),
    ("stop_grace_ms", "--stop-grace"),
    ("constraints", "--constraint"),
    ("mounts", "--mount"),
    ("ports", "--publish"),
    ("env", "--env"),
    ("name", "--name"),
    ("replicas", "--replicas"),
    ("command", "--command"),
];

/// A failure to create or update a service, with flags in the place of fields.
pub fn in_flags(mut failure: Failure) -> Failure {
    if failure.exit == Exit::Usage {
        failure.message = as_flags(&failure.message);
    }
    failure
}

/// The refusal with the flags that were typed in the place of the fields.
fn as_flags(refusal: &str) -> String {
    let Some((field, problem)) = refusal.split_once(": ") else { return refusal.to_owned() };
    let Some((_, flag)) = FLAGS.iter().find(|(known, _)| *known == field) else { return refusal.to_owned() };
    // A problem may compare the field with another one.
    let mut problem = problem.to_owned();
    for (other, flag) in FLAGS.iter().filter(|(other, _)| other.contains(['.', '_'])) {
        problem = problem.replace(other, flag);
    }
    format!("{flag}: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_flag_that_was_typed() {
        assert_eq!(
            as_flags("limits.memory_bytes: 1048576 is below 6291456, the least that a container can start with"),
            "--limit-memory: 1048576 is below 6291456, the least that a container can start with"
        );
        assert_eq!(
            as_flags("health.timeout_ms: 20000 ms must be above 0 and at most health.interval_ms (10000 ms)"),
            "--health-timeout: 20000 ms must be above 0 and at most --health-interval (10000 ms)"
        );
        assert_eq!(as_flags("name: \"X\" is not a name"), "--name: \"X\" is not a name");
    }

    #[test]
    fn what_was_typed_without_a_flag_keeps_its_name() {
        for refusal in ["image: \"X\" is not an image reference", "more than one service: give more", "no colon"] {
            assert_eq!(as_flags(refusal), refusal);
        }
    }
}
