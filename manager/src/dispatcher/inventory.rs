//! A worker's inventory on its way into the log: the newest one counts, and each node has one entry in a few seconds.

use std::time::Duration;

use goat_core::model::Inventory;
use goat_core::state::command::Action;
use tokio::sync::watch;
use tokio::time::Instant;

use super::session::{End, Session};

/// Between two entries of one node: free disk and images change all the time.
const UPDATE_EVERY: Duration = Duration::from_secs(5);
/// Between two entries of which the later one changes what may be placed on the node.
const URGENT_UPDATE_EVERY: Duration = Duration::from_millis(500);

/// The newest inventory of a session.
#[derive(Debug)]
pub(super) struct Newest {
    registered: Inventory,
    newest: watch::Sender<Inventory>,
}

impl Newest {
    /// With the inventory of the hello.
    pub(super) fn new(registered: Inventory) -> Self {
        Self { newest: watch::Sender::new(registered.clone()), registered }
    }

    pub(super) fn set(&self, inventory: Inventory) {
        self.newest.send_replace(inventory);
    }
}

/// Whether a change must not wait: other conditions, drivers or amounts.
fn is_urgent(proposed: &Inventory, newest: &Inventory) -> bool {
    proposed.conditions != newest.conditions
        || proposed.drivers != newest.drivers
        || proposed.total != newest.total
        || proposed.max_tasks != newest.max_tasks
}

impl Session<'_> {
    /// Proposes the worker's inventory when it has changed.
    pub(super) async fn update_inventory(&self) -> End {
        let mut newest = self.inventory.newest.subscribe();
        let (mut proposed, mut last) = (self.inventory.registered.clone(), None::<Instant>);
        loop {
            if *newest.borrow_and_update() == proposed {
                if newest.changed().await.is_err() {
                    return End::Lost("the worker ended it".into());
                }
                continue;
            }
            // One that comes meanwhile may be urgent.
            while let Some(last) = last {
                let pause = if is_urgent(&proposed, &newest.borrow()) { URGENT_UPDATE_EVERY } else { UPDATE_EVERY };
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(last + pause) => break,
                    _ = newest.changed() => {}
                }
            }
            let inventory = newest.borrow_and_update().clone();
            let update = Action::UpdateInventory { node: self.entry.node, inventory: inventory.clone() };
            if let Err(error) = self.active.propose_to_the_end(update).await {
                return error.into();
            }
            (proposed, last) = (inventory, Some(Instant::now()));
        }
    }
}
