//! When instances of slots were alive, and what follows from that. Pure: knows no runtime and no clock.

use std::collections::BTreeMap;

use serde::Serialize;

/// One instance of a slot, from its start to its end by the runtime's own clock (all clocks of a test cluster are one).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Life {
    pub service: String,
    pub slot: u32,
    /// The worker's name.
    pub node: String,
    pub task: String,
    /// Unix time.
    pub from_ms: u64,
    /// None: it is alive.
    pub until_ms: Option<u64>,
}

impl Life {
    pub fn is_alive_at(&self, at_ms: u64) -> bool {
        self.from_ms <= at_ms && self.until_ms.is_none_or(|until| until > at_ms)
    }

    pub const fn is_alive(&self) -> bool {
        self.until_ms.is_none()
    }

    /// `web.2 on w1 (task abc)`
    pub fn describe(&self) -> String {
        format!("{}.{} on {} ({})", self.service, self.slot, self.node, self.task)
    }
}

/// Two live instances of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap<'a> {
    pub older: &'a Life,
    pub newer: &'a Life,
    pub ms: u64,
}

impl Overlap<'_> {
    pub fn describe(&self) -> String {
        format!("{} and {} were both alive for {} ms", self.older.describe(), self.newer.describe(), self.ms)
    }
}

/// Every pair of instances of one slot that were alive at one time. Those that are alive are so until `now_ms`.
pub fn overlaps(lives: &[Life], now_ms: u64) -> Vec<Overlap<'_>> {
    let mut found = Vec::new();
    for slot in by_slot(lives).into_values() {
        for (at, older) in slot.iter().enumerate() {
            for newer in &slot[at + 1..] {
                let end = |life: &Life| life.until_ms.unwrap_or(now_ms);
                let ms = end(older).min(end(newer)).saturating_sub(newer.from_ms);
                if ms > 0 {
                    found.push(Overlap { older, newer, ms });
                }
            }
        }
    }
    found
}

/// The most instances of any one slot that were alive at one time.
pub fn most_at_once(lives: &[Life]) -> usize {
    let at_starts = |slot: &Vec<&Life>| {
        let alive = |at_ms| slot.iter().filter(|life| life.is_alive_at(at_ms)).count();
        slot.iter().map(|life| alive(life.from_ms)).max()
    };
    by_slot(lives).values().filter_map(at_starts).max().unwrap_or(0)
}

/// When every slot that was on `nodes` at `since_ms` had an instance elsewhere that started since. None: not all have.
pub fn refilled_ms(lives: &[Life], nodes: &[String], since_ms: u64) -> Option<u64> {
    let slots = by_slot(lives).into_values().filter(|slot| was_on(slot, nodes, since_ms));
    let mut last = since_ms;
    for slot in slots {
        let elsewhere = slot.iter().filter(|life| life.from_ms >= since_ms && !nodes.contains(&life.node));
        last = last.max(elsewhere.map(|life| life.from_ms).min()?);
    }
    Some(last)
}

/// When the last instance that was alive on `nodes` at `since_ms` had ended. None: not all have.
pub fn ended_ms(lives: &[Life], nodes: &[String], since_ms: u64) -> Option<u64> {
    let were = lives.iter().filter(|life| nodes.contains(&life.node) && life.is_alive_at(since_ms));
    were.map(|life| life.until_ms).try_fold(since_ms, |last, until| Some(last.max(until?)))
}

fn was_on(slot: &[&Life], nodes: &[String], at_ms: u64) -> bool {
    slot.iter().any(|life| life.is_alive_at(at_ms) && nodes.contains(&life.node))
}

/// Oldest first.
fn by_slot(lives: &[Life]) -> BTreeMap<(&str, u32), Vec<&Life>> {
    let mut slots: BTreeMap<_, Vec<&Life>> = BTreeMap::new();
    for life in lives {
        slots.entry((life.service.as_str(), life.slot)).or_default().push(life);
    }
    for slot in slots.values_mut() {
        slot.sort_by_key(|life| (life.from_ms, life.until_ms));
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(slot: u32, node: &str, from_ms: u64, until_ms: Option<u64>) -> Life {
        let task = format!("{slot}-{node}-{from_ms}");
        Life { service: "web".into(), slot, node: node.into(), task, from_ms, until_ms }
    }

    #[test]
    fn two_instances_of_a_slot_that_meet_are_an_overlap_and_a_handover_is_none() {
        let lives = [life(1, "w1", 0, Some(100)), life(1, "w2", 100, None), life(2, "w1", 0, None)];
        assert_eq!((overlaps(&lives, 500), most_at_once(&lives)), (vec![], 1));
        let lives = [life(1, "w2", 90, None), life(1, "w1", 0, Some(100)), life(1, "w3", 95, None)];
        let found: Vec<_> = overlaps(&lives, 500).iter().map(|overlap| overlap.ms).collect();
        assert_eq!((found, most_at_once(&lives)), (vec![10, 5, 405], 3));
    }

    #[test]
    fn the_live_ones_of_other_slots_and_services_do_not_meet() {
        let other = Life { service: "other".into(), ..life(1, "w2", 0, None) };
        assert_eq!(most_at_once(&[life(1, "w1", 0, None), other, life(2, "w1", 0, None)]), 1);
        assert_eq!(most_at_once(&[]), 0);
    }

    #[test]
    fn slots_are_refilled_when_the_last_one_runs_elsewhere() {
        let lost = ["w1".to_owned()];
        let mut lives = vec![life(1, "w1", 0, Some(60)), life(2, "w1", 0, None), life(3, "w2", 0, None)];
        assert_eq!((refilled_ms(&lives, &lost, 50), ended_ms(&lives, &lost, 50)), (None, None));
        lives.extend([life(1, "w2", 70, None), life(2, "w1", 65, None)]);
        assert_eq!(refilled_ms(&lives, &lost, 50), None, "not where it was lost");
        lives.push(life(2, "w3", 90, Some(95)));
        lives[1].until_ms = Some(85);
        assert_eq!((refilled_ms(&lives, &lost, 50), ended_ms(&lives, &lost, 50)), (Some(90), Some(85)));
        assert_eq!(refilled_ms(&lives, &["w9".to_owned()], 50), Some(50), "nothing was there");
    }
}
