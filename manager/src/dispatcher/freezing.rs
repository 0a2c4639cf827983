//! The announced outage (`goatctl cluster freeze`), as the leader's account of leases follows it.

use goat_core::lease::LeaderLeases;
use goat_core::state::Freeze;

use super::Active;
use super::node_states::{Order, Subject};
use super::ordered::Ordered;
use crate::clock;

/// The announced outage, as this leader counts it: by its own clock, from when it began to lead or heard of it. So no
/// grant of this leader or an earlier one lasts longer, whatever the managers' clocks say.
#[derive(Debug, Default)]
pub(super) struct Freezing {
    known: Option<(Freeze, u64)>,
}

impl Freezing {
    /// Makes grants longer while it lasts, and orders its end when its time is over.
    pub(super) fn follow(&mut self, active: &Active, leases: &mut LeaderLeases, ordered: &mut Ordered) {
        let (now, now_ms) = (active.group.view().read().freeze(), clock::boot_ms());
        let is_news = now.map(|freeze| freeze.version) != self.known.map(|(freeze, _)| freeze.version);
        if is_news {
            self.known = now.map(|freeze| (freeze, now_ms.saturating_add(freeze.for_ms)));
            if now.is_none() {
                leases.shorten();
            }
        }
        let Some((freeze, until_ms)) = self.known else {
            return;
        };
        let left_ms = until_ms.saturating_sub(now_ms);
        // What earlier grants last is in each node's account already, except at the beginning.
        // A worker's clock may have been slow all the while.
        let drift_ms = freeze.for_ms * 2 * active.policy.rate_error_ppm / 1_000_000;
        let longest_ms = if is_news { freeze.for_ms } else { left_ms.saturating_add(drift_ms) };
        match now.is_some_and(|freeze| freeze.stopped) {
            false => leases.extend(longest_ms),
            true => leases.outlast(longest_ms),
        }
        if left_ms == 0 {
            ordered.give(&active.orders, Subject::EndFreeze, Order::of_cluster(freeze.version));
        }
    }
}
