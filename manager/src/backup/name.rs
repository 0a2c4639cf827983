//! Names of saved snapshots, which sort by cluster, then by time: `goat-CLUSTER-20261124T204500Z-INDEX-MANAGER.snapshot`.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use goat_core::archive::Head;

const PREFIX: &str = "goat-";
const SUFFIX: &str = ".snapshot";
/// As a time is written in it.
const TIME_CHARS: usize = "20261124T204500Z".len();
const INDEX_DIGITS: usize = 20;

/// The name of one, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub cluster: String,
    /// Unix time.
    at_s: u64,
    pub index: u64,
    /// The name of the manager that made it.
    pub manager: String,
}

impl Name {
    pub(super) fn new(head: &Head, manager: &str) -> Self {
        let at_s = head.made_at_ms / 1_000;
        Self { cluster: head.cluster_id.clone(), at_s, index: head.index, manager: manager.to_owned() }
    }

    /// None where it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (cluster, rest) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
        let (time, rest) = rest.split_at_checked(TIME_CHARS)?;
        let (index, manager) = rest.strip_prefix('-')?.split_at_checked(INDEX_DIGITS)?;
        let name = Self {
            cluster: cluster.to_owned(),
            at_s: read_time(time)?,
            index: index.parse().ok()?,
            manager: manager.strip_prefix('-')?.to_owned(),
        };
        // Written the same way: nothing else counts as ours.
        (name.to_string() == format!("{PREFIX}{cluster}-{time}-{index}-{}{SUFFIX}", name.manager)).then_some(name)
    }

    /// When it was made (Unix ms), to the second.
    pub const fn at_ms(&self) -> u64 {
        self.at_s * 1_000
    }
}

fn read_time(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to);
    let (date, time) = ((part(0, 4)?, part(4, 6)?, part(6, 8)?), (part(9, 11)?, part(11, 13)?, part(13, 15)?));
    let spelled = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2);
    let at = humantime::parse_rfc3339(&spelled).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.at_s)).to_string();
        let time: String = at.chars().filter(|char| !matches!(char, '-' | ':')).collect();
        let Self { cluster, index, manager, .. } = self;
        write!(f, "{PREFIX}{cluster}-{time}-{index:0>width$}-{manager}{SUFFIX}", width = INDEX_DIGITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(made_at_ms: u64, index: u64) -> Name {
        let head = Head { cluster_id: "ytrjj2w1ne7q".into(), made_at_ms, index, ..Head::default() };
        Name::new(&head, "m-1")
    }

    #[test]
    fn a_name_is_read_back_and_sorts_by_time_and_then_by_index() {
        let names = [name(1_795_553_100_000, 9), name(1_795_553_100_999, 10), name(1_795_553_101_000, 1)];
        let texts = names.clone().map(|name| name.to_string());
        assert_eq!(texts[0], "goat-ytrjj2w1ne7q-20261124T204500Z-00000000000000000009-m-1.snapshot");
        assert!(texts.is_sorted(), "{texts:?}");
        for (name, text) in names.iter().zip(&texts) {
            assert_eq!(Name::parse(text).as_ref(), Some(name));
        }
    }

    #[test]
    fn what_somebody_else_put_there_is_not_ours() {
        let ours = name(1_795_553_100_000, 9).to_string();
        for other in [
            "",
            "notes.txt",
            "goat-.snapshot",
            &ours[..ours.len() - 1],
            &format!("{ours}.old"),
            &ours.replace("20261124", "20261324"),
            &ours.replace("T204500Z", "x204500Z"),
            &ours.replace("00000000000000000009", "+0000000000000000009"),
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
