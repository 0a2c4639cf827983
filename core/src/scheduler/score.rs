//! What it costs to put a task on a node that fits; the least is taken.

use super::{Candidate, Want};
use crate::model::{Resources, Strategy};

/// A share of the whole is counted in this many parts.
const WHOLE: u64 = 1_000_000;

/// Compared from left to right.
pub(super) fn cost(candidate: &Candidate<'_>, want: &Want<'_>, nodes: usize) -> (u64, u64, u64) {
    let total = candidate.node.inventory.total;
    let before = candidate.used.reserved;
    let after = before.plus(want.task.reservations);
    match want.spec.placement.strategy {
        Strategy::Spread => {
            let of_service = candidate.used.by_service.get(&want.task.service).copied().unwrap_or(0);
            (of_service.into(), share(after, total), candidate.used.tasks.into())
        }
        Strategy::Binpack => (WHOLE.saturating_sub(share(after, total)), u64::from(u32::MAX - candidate.used.tasks), 0),
        Strategy::Epvm => (opportunity(before, after, total, nodes), candidate.used.tasks.into(), 0),
    }
}

fn shares(used: Resources, total: Resources) -> [u64; 3] {
    let share = |used: u64, total: u64| {
        (u128::from(used) * u128::from(WHOLE)).checked_div(u128::from(total)).unwrap_or(0).min(u128::from(WHOLE)) as u64
    };
    [
        share(used.cpu_millis, total.cpu_millis),
        share(used.memory_bytes, total.memory_bytes),
        share(used.disk_bytes, total.disk_bytes),
    ]
}

/// The mean share in use.
fn share(used: Resources, total: Resources) -> u64 {
    shares(used, total).iter().sum::<u64>() / 3
}

/// The rise of the sum over resources of n^(share in use), n being the number of nodes: what is scarce costs
/// exponentially more. Section 3 of the paper; with a single node every base is as good, and 2 is used.
fn opportunity(before: Resources, after: Resources, total: Resources, nodes: usize) -> u64 {
    let base = nodes.max(2) as f64;
    let cost = |used| -> f64 { shares(used, total).iter().map(|share| base.powf(*share as f64 / WHOLE as f64)).sum() };
    ((cost(after) - cost(before)).max(0.0) * WHOLE as f64) as u64
}
