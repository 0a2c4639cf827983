//! Validation of a submitted spec: the rules for all specs, and rules that were added later.

use super::{Invalid, ensure, mounts, validate};
use crate::model::{Driver, ServiceSpec};

/// The kernel refuses a quota of less than 1 ms in Docker's period of 100 ms.
const MIN_CPU_LIMIT_MILLIS: u64 = 10;

/// Checks a spec as submitted by a client: all that [`validate`] checks, and rules that were added later. Those are not part of what a
/// command is checked for when it is applied, so that all versions of managers apply it alike. Specs in the state may break them.
///
/// # Errors
/// The first field that is wrong.
pub fn validate_submitted(spec: &ServiceSpec) -> Result<(), Invalid> {
    validate(spec)?;
    mounts::validate_sources(spec)?;
    let limits = spec.limits;
    ensure(limits.cpu_millis == 0 || limits.cpu_millis >= MIN_CPU_LIMIT_MILLIS, "limits.cpu_millis", || {
        format!(
            "{} is below {MIN_CPU_LIMIT_MILLIS} (0.01 CPUs), the least that a container can start with",
            limits.cpu_millis
        )
    })?;
    let is_limited = limits.cpu_millis != 0 || limits.memory_bytes != 0;
    ensure(spec.driver == Driver::Docker || !is_limited, "limits", || {
        "the process driver holds its tasks to no limits: leave them out, or use the docker driver".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> ServiceSpec {
        ServiceSpec { name: "web".into(), image: "alpine:3.20".into(), ..ServiceSpec::default() }
    }

    fn process(spec: &mut ServiceSpec) {
        (spec.driver, spec.image, spec.command) = (Driver::Process, String::new(), vec!["/bin/sleep".into()]);
    }

    #[test]
    fn limits_that_nothing_holds_are_refused_by_name_when_they_are_submitted() {
        let submitted = |change: fn(&mut ServiceSpec)| {
            let mut spec = valid();
            change(&mut spec);
            assert_eq!(validate(&spec), Ok(()), "what is in the log already is applied as ever");
            validate_submitted(&spec).map_err(|invalid| invalid.to_string())
        };
        assert_eq!(submitted(|spec| spec.limits.cpu_millis = 10), Ok(()));
        assert_eq!(
            submitted(|spec| spec.limits.cpu_millis = 9).expect_err("refused"),
            "limits.cpu_millis: 9 is below 10 (0.01 CPUs), the least that a container can start with"
        );
        assert_eq!(
            submitted(|spec| {
                process(spec);
                spec.limits.memory_bytes = 64 << 20;
            })
            .expect_err("refused"),
            "limits: the process driver holds its tasks to no limits: leave them out, or use the docker driver"
        );
        assert_eq!(submitted(process), Ok(()));
    }
}
