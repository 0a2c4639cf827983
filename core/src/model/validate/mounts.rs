//! Validation of mounts.

use std::collections::BTreeSet;

use super::{Invalid, ensure};
use crate::model::{Driver, ServiceSpec};

pub(super) fn validate(spec: &ServiceSpec) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for mount in &spec.mounts {
        ensure(mount.target.starts_with('/') && !mount.target.contains(['\0', ':']), "mounts", || {
            format!("the target {:?} must be an absolute path without colons", mount.target)
        })?;
        ensure(!mount.source.is_empty() && !mount.source.contains(['\0', ':']), "mounts", || {
            format!("the source {:?} must be an absolute path or a volume's name, without colons", mount.source)
        })?;
        ensure(seen.insert(&mount.target), "mounts", || format!("the target {:?} is mounted twice", mount.target))?;
    }
    ensure(spec.mounts.is_empty() || spec.driver == Driver::Docker, "mounts", || {
        "the process driver has no mounts: its tasks see the node's file system".into()
    })
}

/// Refuses sources that no node has: relative to what, it could not know. Not part of [`validate`]: see
/// [`super::validate_submitted`].
pub(super) fn validate_sources(spec: &ServiceSpec) -> Result<(), Invalid> {
    for mount in &spec.mounts {
        ensure(mount.source.starts_with('/') || is_volume_name(&mount.source), "mounts", || {
            format!(
                "the source {:?} is neither an absolute path on the node nor a volume's name (a letter or digit, then letters, \
                 digits, _ . -); give the whole path, as in /srv/data",
                mount.source.chars().take(120).collect::<String>()
            )
        })?;
    }
    Ok(())
}

/// Whether Docker accepts the text as the name of a local volume.
fn is_volume_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() >= 2 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mount;

    #[test]
    fn a_mount_of_a_relative_path_is_refused_when_it_is_submitted_and_stays_valid_in_the_state() {
        let with = |source: &str| {
            let mount = Mount { source: source.into(), target: "/d".into(), read_only: false };
            ServiceSpec { mounts: vec![mount], ..ServiceSpec::default() }
        };
        for source in ["./data", "data/sub", "~/x", "..", "a", "-x", ".hidden", "é1"] {
            let problem = validate_sources(&with(source)).expect_err(source).to_string();
            assert!(problem.starts_with("mounts: ") && problem.contains(source), "{problem}");
            assert_eq!(validate(&with(source)), Ok(()), "{source}");
        }
        for source in ["/srv/data", "data", "pg_data-1.2"] {
            assert_eq!(validate_sources(&with(source)), Ok(()), "{source}");
        }
    }
}
