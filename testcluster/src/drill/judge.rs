//! What must hold of instances after a drill, judged from the witness's lives alone. Pure.

use super::role::Role;
use super::stage::Measured;
use crate::witness::{Life, overlaps};

/// What a drill did that excuses something. By default nothing may stop, and nothing may move.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Workers whose tasks may stop, and may be replaced elsewhere.
    pub lost_nodes: Vec<String>,
    /// Services whose tasks may stop wherever they are.
    pub may_stop: Vec<Role>,
    /// Several workers were cut off together: `stop-if-isolated` does not promise anything then.
    pub may_double_isolated: bool,
    /// There was no quorum for longer than a request waits.
    pub may_fail_requests: bool,
}

impl Rules {
    fn excuses(&self, role: Role, life: &Life) -> bool {
        self.may_stop.contains(&role) || self.lost_nodes.contains(&life.node)
    }
}

/// What was wrong. `began_ms`: when the repeat did.
pub fn judge(lives: &[Life], rules: &Rules, services: &[(Role, String)], began_ms: u64, now_ms: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (role, name) in services {
        let own: Vec<Life> = lives.iter().filter(|life| life.service == *name).cloned().collect();
        let may_double = match role {
            Role::Keep => true,
            Role::Stop => false,
            Role::Isolated => rules.may_double_isolated,
        };
        if !may_double {
            wrong.extend(overlaps(&own, now_ms).iter().map(|overlap| format!("{role}: {}", overlap.describe())));
        }
        let (before, since): (Vec<_>, Vec<_>) = own.iter().partition(|life| life.from_ms < began_ms);
        let ended = before.iter().filter(|life| life.until_ms.is_some_and(|until| until >= began_ms));
        for life in ended.filter(|life| !rules.excuses(*role, life)) {
            wrong.push(format!("{} ended without need", life.describe()));
        }
        for life in since {
            let earlier = before.iter().find(|earlier| earlier.slot == life.slot && earlier.is_alive_at(began_ms));
            if let Some(earlier) = earlier.filter(|earlier| !rules.excuses(*role, earlier)) {
                wrong.push(format!("{} was started without need: {} ran", life.describe(), earlier.describe()));
            }
        }
    }
    wrong
}

/// Those of the role's instances on the nodes that ended between the two moments, though they may not.
pub fn ended_between(lives: &[Life], service: &str, nodes: &[String], (from_ms, to_ms): (u64, u64)) -> Vec<String> {
    let own = lives.iter().filter(|life| life.service == service && nodes.contains(&life.node));
    let ended = own.filter(|life| life.until_ms.is_some_and(|until| (from_ms..to_ms).contains(&until)));
    ended.map(|life| format!("{} ended while it was cut off, and was to be kept", life.describe())).collect()
}

/// The longest that two instances of one slot were alive, in ms.
pub fn doubled(lives: &[Life], services: &[(Role, String)], now_ms: u64) -> Measured {
    let longest = |(role, name): &(Role, String)| {
        let own: Vec<_> = lives.iter().filter(|life| life.service == *name).cloned().collect();
        let longest_ms = overlaps(&own, now_ms).iter().map(|overlap| overlap.ms).max();
        (role.word(), longest_ms.unwrap_or(0) as f64)
    };
    services.iter().map(longest).collect()
}

/// The lives of the drill's services that began or ended since the repeat did, with the word of their role.
pub fn notable(lives: Vec<Life>, services: &[(Role, String)], began_ms: u64) -> Vec<(&'static str, Life)> {
    let is_news = |life: &Life| life.from_ms >= began_ms || life.until_ms.is_some_and(|until| until >= began_ms);
    let word = |life: &Life| services.iter().find(|(_, name)| *name == life.service).map(|(role, _)| role.word());
    lives.into_iter().filter(is_news).filter_map(|life| Some((word(&life)?, life))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: &str, from_ms: u64, until_ms: Option<u64>) -> Life {
        Life { service: "one".into(), slot: 1, node: node.into(), task: format!("t{from_ms}"), from_ms, until_ms }
    }

    fn judged(role: Role, rules: &Rules, lives: &[Life]) -> Vec<String> {
        judge(lives, rules, &[(role, "one".into())], 100, 900)
    }

    #[test]
    fn a_task_that_ends_or_moves_without_a_cause_is_wrong() {
        let none = Rules::default();
        assert_eq!(judged(Role::Keep, &none, &[life("w1", 0, None)]), Vec::<String>::new());
        assert_eq!(judged(Role::Keep, &none, &[life("w1", 0, Some(200))]), ["one.1 on w1 (t0) ended without need"]);
        let moved = [life("w1", 0, None), life("w2", 300, None)];
        assert_eq!(
            judged(Role::Keep, &none, &moved),
            ["one.1 on w2 (t300) was started without need: one.1 on w1 (t0) ran"]
        );
        let lost = Rules { lost_nodes: vec!["w1".into()], ..Rules::default() };
        assert_eq!(judged(Role::Keep, &lost, &moved), Vec::<String>::new());
        let stopped = Rules { may_stop: vec![Role::Stop], ..Rules::default() };
        assert_eq!(
            judged(Role::Stop, &stopped, &[life("w1", 0, Some(200)), life("w1", 300, None)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn two_instances_are_wrong_wherever_the_service_promises_one() {
        let lost = Rules { lost_nodes: vec!["w1".into()], ..Rules::default() };
        let both = [life("w1", 0, Some(400)), life("w2", 300, None)];
        assert_eq!(judged(Role::Keep, &lost, &both), Vec::<String>::new());
        for role in [Role::Stop, Role::Isolated] {
            assert!(judged(role, &lost, &both)[0].contains("were both alive for 100 ms"));
        }
        let together = Rules { may_double_isolated: true, ..lost };
        assert_eq!(judged(Role::Isolated, &together, &both), Vec::<String>::new());
        assert_eq!(judged(Role::Stop, &together, &both).len(), 1);
    }

    #[test]
    fn what_was_to_be_kept_is_looked_at_only_while_it_was_cut_off() {
        let lives = [life("w1", 0, Some(200)), life("w2", 0, Some(300)), life("w1", 1, Some(500))];
        let found = ended_between(&lives, "one", &["w1".into()], (100, 400));
        assert_eq!(found, ["one.1 on w1 (t0) ended while it was cut off, and was to be kept"]);
    }
}
