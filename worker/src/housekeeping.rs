//! Removes images that no task has used for a while; sooner where the disk is under pressure.
//!
//! Which images may go, and what counts as use, is the runtime's to know; when to ask is decided here. Also warns of running
//! containers of the cluster that nobody owns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::Inventory;
use tokio::sync::watch;
use tracing::warn;

use crate::identity::Identity;
use crate::inventory::DISK_PRESSURE;
use crate::runtime::{RUNTIME_DOWN, Runtimes};

const EVERY: Duration = Duration::from_secs(60);
const UNDER_PRESSURE_EVERY: Duration = Duration::from_secs(10);
/// Under pressure. Not at once, since a task has its image before it gets its turn to start.
const UNDER_PRESSURE_UNUSED: Duration = Duration::from_secs(30);

/// Ends when the inventory does. `unused_for`: how long without use is long enough; None: nothing is removed, ever.
pub async fn run(runtimes: Runtimes, unused_for: Option<Duration>, mut inventory: watch::Receiver<Inventory>) {
    let Some(unused_for) = unused_for else { return };
    let has = |inventory: &Inventory, condition: &str| inventory.conditions.contains(condition);
    loop {
        let (is_pressed, is_down) = {
            let inventory = inventory.borrow();
            (has(&inventory, DISK_PRESSURE), has(&inventory, RUNTIME_DOWN))
        };
        let (every, unused_for) = if is_pressed {
            (UNDER_PRESSURE_EVERY, unused_for.min(UNDER_PRESSURE_UNUSED))
        } else {
            (EVERY, unused_for)
        };
        if !is_down {
            prune(&runtimes, unused_for).await;
        }
        // Pressure that comes is not waited out; pressure that stands is looked at again in its time.
        let came = inventory.wait_for(|inventory| has(inventory, DISK_PRESSURE) && !is_pressed);
        if let Ok(Err(_)) = tokio::time::timeout(every, came).await {
            return;
        }
    }
}

/// Warns of containers without an owner that two looks in a row have seen. Never ends.
pub async fn watch_ownerless(runtimes: Runtimes, identity: Arc<Identity>) {
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(cluster) = identity.cluster_id() else { continue };
        let mut now = BTreeSet::new();
        for runtime in runtimes.iter() {
            let Ok(counts) = runtime.ownerless(cluster).await else { continue };
            for (node, containers) in counts {
                if seen.contains(&node) && told.insert(node.clone()) {
                    warn!(
                        node,
                        containers,
                        "containers of another node of this cluster run here, and neither its agent nor its watchdog is seen on this \
                         machine; if that node is gone, stop them: docker ps --filter label=io.goat.node=NODE"
                    );
                }
                now.insert(node);
            }
        }
        told.retain(|node| now.contains(node));
        seen = now;
    }
}

async fn prune(runtimes: &Runtimes, unused_for: Duration) {
    for runtime in runtimes.iter() {
        if let Err(error) = runtime.prune_images(unused_for).await {
            warn!(driver = ?runtime.driver(), %error, "images could not be pruned");
        }
    }
}
