//! Whether all managers are of one mind: what each tells of its own state, at one index, and what it has on its disk.

use std::time::Duration;

use anyhow::Context as _;
use goat_core::check::check_state;
use goat_core::state::State;
use goat_testcluster::Client;
use tokio::time::Instant;

use super::members::place;
use crate::collected::Disk;

/// For all to have applied what there is, when nobody writes any more.
const WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(3);

/// A manager's state, as it told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mind {
    pub manager: String,
    /// The last command in it.
    pub index: u64,
    pub hash: u64,
}

/// Waits until all managers are at one index; their states then.
///
/// # Errors
/// Where they do not come to one index.
pub async fn settled(client: &Client, managers: &[String]) -> anyhow::Result<Vec<Mind>> {
    let client = client.with_limits(ASK, ASK);
    let deadline = Instant::now() + WITHIN;
    loop {
        let mut minds = Vec::new();
        for manager in managers {
            let report = client.debug_of(place(manager)?).await;
            let report = report.with_context(|| format!("{manager} does not tell its state"));
            minds.extend(report.map(|told| Mind {
                manager: manager.clone(),
                index: told.state_index,
                hash: told.state_hash,
            }));
        }
        if minds.len() == managers.len() && minds.iter().all(|mind| mind.index == minds[0].index) {
            return Ok(minds);
        }
        anyhow::ensure!(Instant::now() < deadline, "managers do not come to one index: {minds:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Whom the others do not agree with; empty where they are of one mind.
pub fn differing(minds: &[Mind]) -> Vec<String> {
    let Some(first) = minds.first() else { return vec!["no manager told its state".into()] };
    let others = minds.iter().filter(|mind| mind.index == first.index && mind.hash != first.hash);
    let told = |mind: &Mind| format!("{} has {:016x}", mind.manager, mind.hash);
    others.map(|mind| format!("at index {} {} and {}", mind.index, told(first), told(mind))).collect()
}

/// What core's checker says of the state on a disk, and whether it is what its manager told, where it is as new.
pub fn on_disk(disk: &Disk, minds: &[Mind]) -> Vec<String> {
    let state = match State::from_rows(disk.rows.iter()) {
        Ok(state) => state,
        Err(error) => return vec![format!("the rows of {} make no state: {error}", disk.manager)],
    };
    let violations = check_state(&state).into_iter();
    let mut wrong: Vec<_> = violations.map(|violation| format!("{}, on its disk: {violation}", disk.manager)).collect();
    let told = minds.iter().find(|mind| mind.index == state.applied_index());
    if let Some(told) = told.filter(|told| told.hash != state.hash()) {
        wrong.push(format!(
            "at index {} {} told {:016x}, and {} has {:016x} on its disk",
            told.index,
            told.manager,
            told.hash,
            disk.manager,
            state.hash()
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use goat_raft_store::EntryId;

    use super::*;
    use crate::collected::Rows;

    fn mind(manager: &str, index: u64, hash: u64) -> Mind {
        Mind { manager: manager.into(), index, hash }
    }

    #[test]
    fn two_minds_at_one_index_are_told() {
        assert!(differing(&[mind("m1", 5, 7), mind("m2", 5, 7)]).is_empty());
        assert_eq!(differing(&[mind("m1", 5, 7), mind("m2", 5, 7), mind("m3", 5, 8)]).len(), 1);
        assert_eq!(differing(&[]).len(), 1);
    }

    #[test]
    fn a_disk_that_is_not_what_was_told_is_noticed() {
        let rows: Rows = State::new().rows().into_iter().filter_map(|row| Some((row.key, row.value?))).collect();
        let disk = Disk { manager: "m1".into(), applied: EntryId { term: 1, index: 0 }, rows };
        assert!(on_disk(&disk, &[mind("m1", 0, State::new().hash())]).is_empty());
        assert_eq!(on_disk(&disk, &[mind("m1", 0, 1)]).len(), 1);
        let newer = mind("m1", 4, 1);
        assert!(on_disk(&disk, &[newer]).is_empty(), "it may be behind");
    }
}
