//! What this worker offers: amounts of resources, runtimes, images. Collected here, sent by the session when it changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goat_core::model::validate::node::largest_images;
use goat_core::model::{Driver, ImageInfo, Inventory, Resources, default_task_limit};
use procfs::Current;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Offer;
use crate::disk::{Gauge, Room};
use crate::runtime::{RUNTIME_DOWN, Runtimes};

/// Free disk is told in steps of this, so that it rarely changes.
const DISK_STEP_BYTES: u64 = 64 << 20;
const DISK_EVERY: Duration = Duration::from_secs(10);
const IMAGES_EVERY: Duration = Duration::from_secs(60);
/// Changes of images come in bursts.
const IMAGES_SETTLE: Duration = Duration::from_millis(300);
/// A node without room gets nothing new.
pub const DISK_PRESSURE: &str = "disk-pressure";
/// Nothing leased can be started on it.
const WATCHDOG_DOWN: &str = "watchdog-down";
/// All that can be wrong.
pub(crate) const CONDITIONS: [&str; 3] = [RUNTIME_DOWN, WATCHDOG_DOWN, DISK_PRESSURE];

/// What the reconciler hears from the runtimes that concerns the inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub down: BTreeSet<Driver>,
    /// No watchdog lives.
    pub is_unwatched: bool,
    /// Grows when images may have changed.
    pub images_version: u64,
    /// Tasks that have failed for want of room.
    pub disk_full: u64,
}

/// Collects the inventory.
#[derive(Debug)]
pub struct Collector {
    runtimes: Runtimes,
    offer: Offer,
    /// Where the agent answers pings.
    agent_address: String,
    health: watch::Receiver<Health>,
    /// Where the disk is measured until a runtime says where it keeps its data.
    disk_root: PathBuf,
    has_disk_root: bool,
    gauge: Gauge,
    images: Vec<ImageInfo>,
}

impl Collector {
    /// `agent_address`: where the agent answers pings. `data_dir`: where the disk is measured while no runtime says where
    /// it keeps its data.
    pub fn new(
        runtimes: Runtimes,
        offer: Offer,
        agent_address: String,
        gauge: Gauge,
        health: watch::Receiver<Health>,
        data_dir: &Path,
    ) -> Self {
        let disk_root = data_dir.to_owned();
        Self { runtimes, offer, agent_address, health, disk_root, has_disk_root: false, gauge, images: Vec::new() }
    }

    /// What there is now. Runtimes that do not answer are waited for only briefly.
    pub async fn collect(&mut self) -> Inventory {
        self.ask_disk_root().await;
        self.refresh_images().await;
        self.inventory()
    }

    /// Keeps `inventory` true; never ends.
    pub async fn run(mut self, inventory: watch::Sender<Inventory>) {
        let mut disk_due = tokio::time::interval(DISK_EVERY);
        let mut images_due = Instant::now() + IMAGES_EVERY;
        let mut images_version = self.health.borrow().images_version;
        loop {
            tokio::select! {
                _ = disk_due.tick() => {}
                () = tokio::time::sleep_until(images_due) => {
                    self.refresh_images().await;
                    images_due = Instant::now() + IMAGES_EVERY;
                }
                changed = self.health.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let version = self.health.borrow_and_update().images_version;
                    if std::mem::replace(&mut images_version, version) != version {
                        images_due = images_due.min(Instant::now() + IMAGES_SETTLE);
                    }
                }
            }
            self.ask_disk_root().await;
            let now = self.inventory();
            inventory.send_if_modified(|told| {
                let is_news = *told != now;
                *told = now;
                is_news
            });
        }
    }

    /// Docker's data is what fills the disk; so its place is measured if there is Docker.
    async fn ask_disk_root(&mut self) {
        if self.has_disk_root {
            return;
        }
        let Some(runtime) = self.runtimes.get(Driver::Docker) else {
            return;
        };
        if self.health.borrow().down.contains(&Driver::Docker) {
            return;
        }
        let Ok(root) = runtime.disk_root().await else {
            return;
        };
        // A daemon elsewhere, or in a container, has its data where this worker does not see it.
        if Room::measure(&root).is_some() {
            self.disk_root = root;
        }
        self.has_disk_root = true;
    }

    async fn refresh_images(&mut self) {
        let mut images = Vec::new();
        for runtime in self.runtimes.iter() {
            if self.health.borrow().down.contains(&runtime.driver()) {
                return;
            }
            match runtime.images().await {
                Ok(present) => images.extend(present),
                Err(error) => {
                    warn!(%error, "images could not be listed");
                    return;
                }
            }
        }
        self.images = largest_images(images);
    }

    fn inventory(&mut self) -> Inventory {
        let measured = Room::measure(&self.disk_root);
        let room = measured.unwrap_or_default();
        let conditions = self.conditions(measured.as_ref());
        let offer = &self.offer;
        let offered = Resources {
            cpu_millis: offer.cpu_millis.unwrap_or_else(cpu_millis),
            memory_bytes: offer.memory_bytes.unwrap_or_else(memory_bytes),
            disk_bytes: offer.disk_bytes.unwrap_or(room.total_bytes),
        };
        let total = offered.minus(offer.reserved);
        Inventory {
            total,
            max_tasks: offer.max_tasks.unwrap_or_else(|| default_task_limit(total)),
            drivers: self.runtimes.iter().map(|runtime| runtime.driver()).collect(),
            images: self.images.clone(),
            disk_free_bytes: room.free_bytes / DISK_STEP_BYTES * DISK_STEP_BYTES,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            agent_address: self.agent_address.clone(),
            conditions,
        }
    }

    fn conditions(&mut self, room: Option<&Room>) -> BTreeSet<String> {
        let (is_down, is_unwatched, disk_full) = {
            let health = self.health.borrow();
            (!health.down.is_empty(), health.is_unwatched, health.disk_full)
        };
        // What cannot be measured is not judged.
        let was_pressed = self.gauge.is_pressed();
        let is_pressed = room.is_some_and(|room| self.gauge.observe(room, disk_full, std::time::Instant::now()));
        if is_pressed != was_pressed {
            info!(is_pressed, free_bytes = room.map_or(0, |room| room.free_bytes), "disk pressure has changed");
        }
        let standing = [(is_down, RUNTIME_DOWN), (is_unwatched, WATCHDOG_DOWN), (is_pressed, DISK_PRESSURE)];
        standing.into_iter().filter(|(stands, _)| *stands).map(|(_, word)| word.to_owned()).collect()
    }
}

fn cpu_millis() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get()) as u64 * 1_000
}

fn memory_bytes() -> u64 {
    procfs::Meminfo::current().map_or(0, |memory| memory.mem_total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_offer_is_the_machine_as_configured_less_what_is_reserved() {
        let (_health, seen) = watch::channel(Health::default());
        let offer = Offer {
            cpu_millis: Some(1_500),
            reserved: Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 0 },
            ..Offer::default()
        };
        let gauge = Gauge::new(Some(0));
        let mut collector = Collector::new(Runtimes::default(), offer, String::new(), gauge, seen, Path::new("/"));
        let inventory = collector.collect().await;
        assert_eq!(inventory.total.cpu_millis, 1_000);
        assert_eq!(inventory.total.memory_bytes, memory_bytes() - (1 << 20));
        assert!(inventory.total.disk_bytes > 0 && inventory.disk_free_bytes % DISK_STEP_BYTES == 0);
        assert_eq!(inventory.conditions, BTreeSet::new());
        assert_eq!(inventory.max_tasks, 125, "by one CPU");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_in_constant_words() {
        let (health, seen) = watch::channel(Health::default());
        let mut collector = Collector::new(
            Runtimes::default(),
            Offer::default(),
            String::new(),
            Gauge::new(Some(0)),
            seen,
            Path::new("/"),
        );
        health.send_modify(|health| {
            health.down.insert(Driver::Docker);
            health.disk_full += 1;
        });
        let words: Vec<String> = collector.collect().await.conditions.into_iter().collect();
        assert_eq!(words, ["disk-pressure", "runtime-down"]);
    }
}
