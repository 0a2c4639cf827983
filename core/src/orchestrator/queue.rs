//! Slots that are to be looked at, taken from each service in turn. A service with many of them delays the others by one
//! slot each time, and no slot of a service is taken twice before every other one of it was taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::model::ServiceId;

#[derive(Debug, Default)]
pub(super) struct SlotQueue {
    /// Only services with slots that wait.
    services: BTreeMap<ServiceId, Ring>,
    /// The service that was served last.
    last: Option<ServiceId>,
}

#[derive(Debug, Default)]
struct Ring {
    slots: BTreeSet<u32>,
    /// The next one to take is the first from here on, or the lowest.
    from: u32,
}

impl Ring {
    fn pop(&mut self) -> Option<u32> {
        let slot = self.slots.range(self.from..).next().or_else(|| self.slots.first()).copied()?;
        self.slots.remove(&slot);
        self.from = slot.saturating_add(1);
        Some(slot)
    }
}

impl SlotQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    pub(super) fn insert(&mut self, service: ServiceId, slot: u32) {
        self.services.entry(service).or_default().slots.insert(slot);
    }

    pub(super) fn remove(&mut self, service: ServiceId, slot: u32) {
        if let Some(ring) = self.services.get_mut(&service) {
            ring.slots.remove(&slot);
            if ring.slots.is_empty() {
                self.services.remove(&service);
            }
        }
    }

    /// Takes the next slot, of the service after the one that was served last.
    pub(super) fn pop(&mut self) -> Option<(ServiceId, u32)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.services.range((after, Bound::Unbounded)).next().map(|(id, _)| *id);
        let service = next.or_else(|| self.services.first_key_value().map(|(id, _)| *id))?;
        let ring = self.services.get_mut(&service)?;
        let slot = ring.pop()?;
        if ring.slots.is_empty() {
            self.services.remove(&service);
        }
        self.last = Some(service);
        Some((service, slot))
    }

    /// Takes over all slots of another queue.
    pub(super) fn append(&mut self, other: &mut Self) {
        for (service, ring) in std::mem::take(&mut other.services) {
            self.services.entry(service).or_default().slots.extend(ring.slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: ServiceId = ServiceId::from_random(1);
    const SMALL: ServiceId = ServiceId::from_random(2);

    #[test]
    fn services_take_turns_and_no_slot_is_taken_again_before_the_others_of_its_service() {
        let mut queue = SlotQueue::default();
        (1..=1_000).for_each(|slot| queue.insert(LARGE, slot));
        queue.insert(SMALL, 7);
        assert_eq!(queue.pop(), Some((LARGE, 1)));
        assert_eq!(queue.pop(), Some((SMALL, 7)));
        let mut taken = Vec::new();
        // The slot that was taken changes again each time.
        for _ in 0..999 {
            let (service, slot) = queue.pop().expect("there are more");
            queue.insert(service, slot);
            taken.push(slot);
        }
        assert_eq!(taken, (2..=1_000).collect::<Vec<u32>>());
    }
}
