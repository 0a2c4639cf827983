//! A warning before the user's own certificate ends. Members renew theirs by themselves; a user has to be there for it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::exit::{Exit, Failure};
use crate::output::rfc3339;

const DAY_S: u64 = 24 * 3_600;
/// The warning begins so long before the end.
const WARN_S: u64 = 30 * DAY_S;

/// The warning for the credentials in `file`, valid until `until_s` (Unix seconds); `None` if they last for longer.
pub fn warning(until_s: u64, file: &str) -> Option<String> {
    warning_at(now_s(), until_s, file)
}

/// The failure of a request with credentials that were valid until `until_s` (Unix seconds). If they have expired, no manager
/// accepts them, and to say that managers are not reached would send the user the wrong way.
pub fn explained(failure: Failure, until_s: u64, file: &str) -> Failure {
    if failure.exit != Exit::Unreachable || until_s > now_s() {
        return failure;
    }
    let until = rfc3339(until_s.saturating_mul(1_000)).unwrap_or_default();
    let text =
        format!("the certificate in {file} has expired ({until}), and no manager accepts it\n{}", failure.message);
    Failure::failed(text).with_hint(
        "let another user make one (`goatctl cluster issue-client NAME -f FILE`), or root on a manager's machine, with \
         `--credentials DATA_DIR/identity.pem`; then `goatctl context add`",
    )
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn warning_at(now_s: u64, until_s: u64, file: &str) -> Option<String> {
    let left_s = until_s.saturating_sub(now_s);
    if left_s >= WARN_S {
        return None;
    }
    Some(match left_s {
        0 => format!("warning: the certificate in {file} has expired"),
        _ => {
            let days = left_s.div_ceil(DAY_S);
            let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
            format!("warning: the certificate in {file} ends within {days}: renew it with `goatctl context renew`")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_warned_from_thirty_days_before_the_end() {
        let now_s = 1_000 * DAY_S;
        assert_eq!(warning_at(now_s, now_s + WARN_S, "f"), None);
        let soon = warning_at(now_s, now_s + WARN_S - 1, "f").expect("a warning");
        assert!(soon.contains("ends within 30 days") && soon.contains("context renew"), "{soon}");
        assert!(warning_at(now_s, now_s + 5, "f").expect("a warning").contains("within 1 day:"));
        assert!(warning_at(now_s, now_s, "f").expect("a warning").contains("has expired"));
    }

    #[test]
    fn a_certificate_that_has_expired_is_the_reason_and_not_the_managers() {
        let unreachable = || Failure::new(Exit::Unreachable, "no manager answered within 2.5 s");
        let explained_until = |until_s| explained(unreachable(), until_s, "f");
        assert_eq!(explained_until(u64::MAX), unreachable());
        let text = explained_until(1_700_000_000).to_string();
        for part in [
            "the certificate in f has expired (2023-11-14T22:13:20Z)",
            "no manager answered",
            "issue-client",
            "identity.pem",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let refused = Failure::failed("no service web");
        assert_eq!(explained(refused.clone(), 1, "f"), refused);
    }
}
