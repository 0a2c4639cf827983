//! Rules of links that several faults have set at one time: a link is cut while any of them cuts it, and else as slow as the
//! slowest of them says. Ending one fault leaves the others'.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use goat_testcluster::links::{Links, Rule};
use goat_testcluster::shape::Shape;

/// From whom to whom.
pub type Link = (String, String);
/// What one fault does to links.
pub type Front = Vec<(Link, Rule)>;

#[derive(Debug, Default)]
pub struct Weather {
    fronts: Mutex<BTreeMap<usize, Front>>,
}

impl Weather {
    /// A fault has begun, or has ended where `front` is empty.
    pub fn change(&self, links: &Links, fault: usize, front: Front) {
        let mut fronts = self.fronts.lock().expect("no panic holds it");
        let before = whole(&fronts);
        if front.is_empty() {
            fronts.remove(&fault);
        } else {
            fronts.insert(fault, front);
        }
        let after = whole(&fronts);
        for (from, to) in before.keys().filter(|link| !after.contains_key(*link)) {
            links.set(from, to, None);
        }
        for ((from, to), rule) in after.iter().filter(|(link, rule)| before.get(*link) != Some(rule)) {
            links.set(from, to, Some(*rule));
        }
    }
}

fn whole(fronts: &BTreeMap<usize, Front>) -> HashMap<Link, Rule> {
    let mut found: HashMap<Link, Rule> = HashMap::new();
    for (link, rule) in fronts.values().flatten() {
        let worst = found.get(link).map_or(*rule, |other| worse(*other, *rule));
        found.insert(link.clone(), worst);
    }
    found
}

fn worse(one: Rule, other: Rule) -> Rule {
    match (one, other) {
        (Rule::Shape(one), Rule::Shape(other)) => Rule::Shape(one.worse(other)),
        _ => Rule::Cut,
    }
}

/// From each of the ones to each of the others.
pub fn between(ones: &[String], others: &[String], rule: Rule) -> Front {
    let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (one.clone(), other.clone())));
    pairs.map(|link| (link, rule)).collect()
}

/// And back.
pub fn both_ways(ones: &[String], others: &[String], rule: Rule) -> Front {
    let mut front = between(ones, others, rule);
    front.extend(between(others, ones, rule));
    front
}

pub fn slow(ms: u64) -> Rule {
    Rule::Shape(Shape::delayed(Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use goat_testcluster::Layout;
    use goat_testcluster::runtime::RuntimeKind;

    use super::*;

    fn links() -> Links {
        Links::new(Layout {
            dir: "/nowhere".into(),
            subnet: 1,
            managers: 3,
            spares: 0,
            workers: 1,
            runtime: RuntimeKind::Process,
            front: None,
            is_direct: false,
            has_daemons: false,
            docker_host: None,
        })
    }

    #[test]
    fn the_end_of_one_fault_is_not_the_end_of_anothers() {
        let (links, weather) = (links(), Weather::default());
        let name = |name: &str| vec![name.to_owned()];
        weather.change(&links, 1, both_ways(&name("m1"), &name("m2"), Rule::Cut));
        weather.change(&links, 2, between(&name("m1"), &name("m2"), slow(30)));
        weather.change(&links, 3, between(&name("m1"), &name("m2"), slow(20)));
        assert_eq!(links.describe(), ["m1 -> m2: cut", "m2 -> m1: cut"]);
        weather.change(&links, 1, Vec::new());
        assert_eq!(links.describe(), ["m1 -> m2: 30 ms"]);
        weather.change(&links, 2, Vec::new());
        weather.change(&links, 3, Vec::new());
        assert!(links.describe().is_empty());
    }
}
