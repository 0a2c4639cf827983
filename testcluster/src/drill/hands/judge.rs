//! When a service's containers ran, by Docker's own events: each run of a container counts, however often it is started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bollard::Docker;
use bollard::query_parameters as query;
use futures::StreamExt;

use crate::witness::{Life, now_ms};

#[derive(Debug)]
struct Seen {
    container: String,
    slot: u32,
    task: String,
    at_ms: u64,
    is_start: bool,
}

/// Docker's word on when the service's containers ran. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Judge(Arc<Mutex<Vec<Seen>>>);

impl Judge {
    pub(super) async fn watch(self, client: Docker, service: String) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type", words(&["container"])),
            ("event", words(&["start", "die"])),
            ("label", vec![format!("io.goat.service={service}")]),
        ]);
        let since = (now_ms() / 1_000).saturating_sub(1).to_string();
        let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let mut events = client.events(Some(options)).boxed();
        while let Some(Ok(event)) = events.next().await {
            let read = || {
                let at_ms = u64::try_from(event.time_nano?).ok()? / 1_000_000;
                let actor = event.actor?;
                let labels = actor.attributes?;
                let slot = labels.get("io.goat.slot")?.parse().ok()?;
                let task = labels.get("io.goat.task")?.clone();
                Some(Seen { container: actor.id?, slot, task, at_ms, is_start: event.action? == "start" })
            };
            self.0.lock().expect("no panic holds it").extend(read());
        }
    }

    /// Each run of each container. Copies are no instances: people started them.
    pub(super) fn lives(&self, service: &str, copies: &[String]) -> Vec<Life> {
        let seen = self.0.lock().expect("no panic holds it");
        let mut lives: Vec<(String, Life)> = Vec::new();
        for seen in seen.iter().filter(|seen| !copies.contains(&seen.container)) {
            if seen.is_start {
                let life = Life {
                    service: service.to_owned(),
                    slot: seen.slot,
                    node: "docker".into(),
                    task: seen.task.clone(),
                    from_ms: seen.at_ms,
                    until_ms: None,
                };
                lives.push((seen.container.clone(), life));
                continue;
            }
            let open = lives.iter_mut().rev().find(|(id, life)| *id == seen.container && life.is_alive());
            if let Some((_, life)) = open {
                life.until_ms = Some(seen.at_ms);
            }
        }
        lives.into_iter().map(|(_, life)| life).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::overlaps;

    #[test]
    fn each_run_of_a_container_is_a_life_of_its_own() {
        let judge = Judge::default();
        let see = |container: &str, at_ms, is_start| {
            let seen = Seen { container: container.into(), slot: 1, task: "t".into(), at_ms, is_start };
            judge.0.lock().expect("free").push(seen);
        };
        see("a", 10, true);
        see("a", 20, false);
        see("b", 30, true);
        see("a", 40, true);
        see("a", 45, false);
        see("copy", 50, true);
        let lives = judge.lives("s", &["copy".into()]);
        let times: Vec<_> = lives.iter().map(|life| (life.from_ms, life.until_ms)).collect();
        assert_eq!(times, [(10, Some(20)), (30, None), (40, Some(45))]);
        let doubled: Vec<_> = overlaps(&lives, 100).iter().map(|overlap| overlap.ms).collect();
        assert_eq!(doubled, [5], "it ran again beside its successor");
    }
}
