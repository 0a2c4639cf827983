//! What a health check must satisfy.

use super::{Invalid, MAX_WAIT_MS, ensure};
use crate::model::{HealthCheck, HealthProbe};

pub(super) fn validate(health: Option<&HealthCheck>) -> Result<(), Invalid> {
    let Some(health) = health else { return Ok(()) };
    let HealthCheck { interval_ms, timeout_ms, start_period_ms, .. } = *health;
    ensure(interval_ms > 0, "health.interval_ms", || "must be above 0".into())?;
    ensure(interval_ms <= MAX_WAIT_MS, "health.interval_ms", || {
        format!("{interval_ms} ms is over the limit of one day")
    })?;
    ensure(timeout_ms > 0 && timeout_ms <= interval_ms, "health.timeout_ms", || {
        format!("{timeout_ms} ms must be above 0 and at most health.interval_ms ({interval_ms} ms)")
    })?;
    ensure(start_period_ms <= MAX_WAIT_MS, "health.start_period_ms", || {
        format!("{start_period_ms} ms is over the limit of one day")
    })?;
    ensure(health.retries > 0, "health.retries", || "must be at least 1".into())?;
    match &health.probe {
        HealthProbe::Http { port, path } => {
            ensure(*port > 0, "health.http.port", || "port 0 cannot be probed".into())?;
            // It goes into the request as it is.
            ensure(path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic()), "health.http.path", || {
                format!("{path:?} must begin with /; blanks and letters beyond ASCII are written as %XX")
            })
        }
        HealthProbe::Tcp { port } => ensure(*port > 0, "health.tcp.port", || "port 0 cannot be probed".into()),
        HealthProbe::Command { argv } => {
            let has_program = argv.first().is_some_and(|program| !program.is_empty());
            ensure(has_program, "health.command", || "needs a program to run".into())?;
            ensure(!argv.iter().any(|word| word.contains('\0')), "health.command", || "contains a NUL byte".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut HealthCheck)) -> String {
        let probe = HealthProbe::Http { port: 80, path: "/healthz?full=1".into() };
        let mut health =
            HealthCheck { probe, interval_ms: 1_000, timeout_ms: 1_000, start_period_ms: 5_000, retries: 1 };
        assert_eq!(validate(Some(&health)), Ok(()));
        change(&mut health);
        validate(Some(&health)).expect_err("it is wrong").to_string()
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused_by_name() {
        assert_eq!(refused(|health| health.interval_ms = 0), "health.interval_ms: must be above 0");
        let text = "health.timeout_ms: 1001 ms must be above 0 and at most health.interval_ms (1000 ms)";
        assert_eq!(refused(|health| health.timeout_ms = 1_001), text);
        assert!(refused(|health| health.timeout_ms = 0).starts_with("health.timeout_ms: 0 ms"));
        assert_eq!(refused(|health| health.retries = 0), "health.retries: must be at least 1");
        let text = "health.start_period_ms: 86400001 ms is over the limit of one day";
        assert_eq!(refused(|health| health.start_period_ms = 86_400_001), text);
    }

    #[test]
    fn what_cannot_be_probed_is_refused_by_name() {
        let probe = |probe| refused(|health| health.probe = probe);
        for path in ["", "healthz", "/a b", "/é", "/a\r\nX: y"] {
            let text = probe(HealthProbe::Http { port: 80, path: path.into() });
            assert!(text.starts_with("health.http.path: "), "{path:?}: {text}");
        }
        assert!(probe(HealthProbe::Http { port: 0, path: "/".into() }).starts_with("health.http.port: "));
        assert!(probe(HealthProbe::Tcp { port: 0 }).starts_with("health.tcp.port: "));
        for argv in [vec![], vec![""], vec!["a", "b\0"]] {
            let argv = argv.into_iter().map(Into::into).collect();
            assert!(probe(HealthProbe::Command { argv }).starts_with("health.command: "));
        }
    }
}
