//! A warning before the user's own certificate ends. Members renew theirs by themselves; a user has to be there for it.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 24 * 3_600;
/// The warning begins so long before the end.
const WARN_S: u64 = 30 * DAY_S;

/// The warning for the credentials in `file`, valid until `until_s` (Unix seconds); `None` if they last for longer.
pub fn warning(until_s: u64, file: &str) -> Option<String> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    warning_at(now_s, until_s, file)
}

fn warning_at(now_s: u64, until_s: u64, file: &str) -> Option<String> {
    let left_s = until_s.saturating_sub(now_s);
    if left_s >= WARN_S {
        return None;
    }
    Some(match left_s {
        0 => format!(
            "warning: the certificate in {file} has expired: ask for another one (`goatctl cluster issue-client`)"
        ),
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
}
