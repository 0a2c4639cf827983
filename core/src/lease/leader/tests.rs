//! The leader's account, one rule at a time.

use super::*;

const NODE: NodeId = NodeId::from_random(1);
const OTHER: NodeId = NodeId::from_random(9);

/// The node's heartbeats are granted all the time from the one to the other, both ends included.
fn hear(leases: &mut LeaderLeases, node: NodeId, from_ms: u64, to_ms: u64) {
    let beats = (from_ms..to_ms).step_by(LeasePolicy::default().heartbeat_ms as usize);
    beats.chain([to_ms]).for_each(|at_ms| leases.granted(node, at_ms));
}

/// `NODE` in an account of 0 ms, beside another one that is heard from then to an hour later.
fn beside_another(told: NodeState) -> LeaderLeases {
    let mut leases = LeaderLeases::new(LeasePolicy::default(), 0, [(NODE, told), (OTHER, NodeState::Ready)]);
    hear(&mut leases, OTHER, 0, 3_600_000);
    leases
}

#[test]
fn a_leased_node_is_down_only_after_the_full_wait() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Ready);
    assert_eq!(leases.due(policy.disconnected_after_ms, |_| true), [(NODE, NodeState::Disconnected)]);
    assert_eq!(leases.due(policy.manager_wait_ms() - 1, |_| true), []);
    assert_eq!(leases.due(policy.manager_wait_ms(), |_| true), [(NODE, NodeState::Down)]);
    leases.forget(OTHER, 3_600_000);
    assert_eq!(leases.next_deadline_ms(0), None);
}

#[test]
fn a_node_without_leased_tasks_is_down_sooner() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Ready);
    assert_eq!(leases.due(policy.down_after_ms, |_| false), [(NODE, NodeState::Down)]);
}

#[test]
fn a_node_that_others_reach_is_waited_for_but_not_for_ever() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Ready);
    let reached = |leases: &mut LeaderLeases, at_ms: u64| {
        leases.reached(NODE, at_ms);
        leases.due(at_ms, |_| false)
    };
    assert_eq!(reached(&mut leases, policy.down_after_ms), [(NODE, NodeState::Disconnected)]);
    assert_eq!(leases.doubtful(policy.down_after_ms), [NODE]);
    let last_ms = policy.down_after_ms + policy.opinion_patience_ms;
    assert_eq!(reached(&mut leases, last_ms - 1), []);
    assert_eq!(reached(&mut leases, last_ms), [(NODE, NodeState::Down)]);
}

/// It may have been granted by an earlier leader, of which this one has no word.
#[test]
fn a_lease_for_a_freeze_is_waited_for_by_a_leader_that_granted_none() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Disconnected);
    leases.extend(60_000);
    let wait_ms = policy.manager_wait_for_ms(60_000);
    assert_eq!(leases.due(wait_ms - 1, |_| true), []);
    assert_eq!(leases.due(wait_ms, |_| true), [(NODE, NodeState::Down)]);
}

#[test]
fn an_old_opinion_does_not_count() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Ready);
    leases.reached(NODE, policy.down_after_ms - OPINION_FRESH_MS);
    assert_eq!(leases.due(policy.down_after_ms, |_| false), [(NODE, NodeState::Down)]);
}

#[test]
fn when_half_of_the_nodes_vanish_at_once_they_are_given_up_one_by_one() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2, 3, 4].map(NodeId::from_random);
    let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Ready)));
    let at_ms = policy.down_after_ms;
    let mut heard_ms = 0;
    let mut downs = |leases: &mut LeaderLeases, now_ms: u64| {
        while heard_ms <= now_ms {
            leases.granted(nodes[2], heard_ms);
            leases.granted(nodes[3], heard_ms);
            heard_ms += policy.heartbeat_ms;
        }
        leases.due(now_ms, |_| false).into_iter().filter(|(_, state)| *state == NodeState::Down).count()
    };
    assert_eq!(downs(&mut leases, at_ms), 1);
    assert!(leases.is_mass_loss(at_ms));
    assert_eq!(leases.next_deadline_ms(at_ms), Some(at_ms + policy.disconnected_after_ms));
    assert_eq!(downs(&mut leases, at_ms + policy.mass_interval_ms - 1), 0);
    assert_eq!(downs(&mut leases, at_ms + policy.mass_interval_ms), 1);
}

#[test]
fn while_no_node_is_heard_none_is_given_up() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2].map(NodeId::from_random);
    for is_leased in [false, true] {
        let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Disconnected)));
        assert_eq!(leases.due(3_600_000, |_| is_leased), []);
    }
}

#[test]
fn a_leased_node_has_its_full_time_from_when_another_is_heard() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2].map(NodeId::from_random);
    let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Disconnected)));
    let due_while_heard = |leases: &mut LeaderLeases, from_ms: u64, to_ms: u64| {
        let mut due = Vec::new();
        for now_ms in (from_ms..=to_ms).step_by(policy.heartbeat_ms as usize) {
            leases.granted(nodes[1], now_ms);
            due.extend(leases.due(now_ms, |_| true));
        }
        leases.granted(nodes[1], to_ms);
        due.extend(leases.due(to_ms, |_| true));
        due
    };
    assert_eq!(due_while_heard(&mut leases, 60_000, 60_000 + policy.manager_wait_ms() - 1), []);
    // After a gap it starts again: who is cut off may have taken that one's silence for the managers' end.
    let again_ms = 60_000 + policy.manager_wait_ms() - 1 + policy.disconnected_after_ms;
    assert_eq!(due_while_heard(&mut leases, again_ms, again_ms + policy.manager_wait_ms() - 1), []);
    let until_ms = again_ms + policy.manager_wait_ms();
    assert_eq!(leases.next_deadline_ms(until_ms - 1), Some(until_ms));
    assert_eq!(leases.due(until_ms, |_| true), [(nodes[0], NodeState::Down)]);
}

/// The other may be cut off as it is and not know that it was removed: asked, it says that the managers are gone.
#[test]
fn the_last_node_is_waited_for_until_it_knows_that_the_others_were_removed() {
    let policy = LeasePolicy::default();
    for heard_for_ms in [0, TOLD_WITHIN_MS - 1, TOLD_WITHIN_MS] {
        let known = [(NODE, NodeState::Ready), (OTHER, NodeState::Ready)];
        let mut removing = LeaderLeases::new(policy, 0, known);
        hear(&mut removing, NODE, 0, 60_000);
        removing.forget(OTHER, 60_000);
        // A leader that comes after the removal does not know of it, nor one whose account begins anew.
        let later = LeaderLeases::new(policy, 60_000, [(NODE, NodeState::Ready)]);
        for mut leases in [removing, later] {
            hear(&mut leases, NODE, 60_000, 60_000 + heard_for_ms);
            let due = leases.due(3_600_000, |_| true);
            let wanted = if heard_for_ms < TOLD_WITHIN_MS { NodeState::Disconnected } else { NodeState::Down };
            assert_eq!(due, [(NODE, wanted)], "heard for {heard_for_ms} ms since");
        }
    }
}

/// What it was told when it came may be lost with what it heard last.
#[test]
fn a_lone_node_that_is_heard_after_a_gap_is_told_anew() {
    let policy = LeasePolicy::default();
    let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
    leases.granted(NODE, 60_000);
    assert_eq!(leases.due(3_600_000, |_| true), [(NODE, NodeState::Disconnected)]);
    hear(&mut leases, NODE, 3_600_000, 3_600_000 + TOLD_WITHIN_MS);
    assert_eq!(leases.due(7_200_000, |_| true), [(NODE, NodeState::Down)]);
}

#[test]
fn a_node_that_was_never_heard_is_given_up_where_another_is() {
    let policy = LeasePolicy::default();
    let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready), (OTHER, NodeState::Ready)]);
    leases.forget(OTHER, 60_000);
    let (third, until_ms) = (NodeId::from_random(3), 60_000 + policy.manager_wait_ms());
    hear(&mut leases, third, 60_000, until_ms);
    assert_eq!(leases.due(until_ms - 1, |_| true), [(NODE, NodeState::Disconnected)]);
    assert_eq!(leases.due(until_ms, |_| true), [(NODE, NodeState::Down)]);
}

#[test]
fn a_registration_alone_does_not_make_a_node_one_that_others_can_ask() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2].map(NodeId::from_random);
    let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Disconnected)));
    leases.registered(nodes[1], policy.manager_wait_ms());
    assert_eq!(leases.due(policy.manager_wait_ms(), |_| true), []);
}

#[test]
fn one_node_of_many_is_no_mass_loss() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2, 3].map(NodeId::from_random);
    let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Ready)));
    leases.granted(nodes[1], 2_000);
    leases.granted(nodes[2], 2_000);
    assert!(!leases.is_mass_loss(2_500));
    assert!(leases.is_mass_loss(4_000));
}

#[test]
fn a_longer_lease_is_waited_for_to_its_end_even_after_a_shorter_grant() {
    let policy = LeasePolicy::default();
    let mut leases = beside_another(NodeState::Ready);
    leases.extend(60_000);
    leases.granted(NODE, 1_000);
    leases.shorten();
    leases.granted(NODE, 11_000);
    let until_ms = 11_000 + policy.manager_wait_for_ms(50_000);
    leases.due(until_ms - 2, |_| true);
    assert_eq!(leases.due(until_ms - 1, |_| true), []);
    assert_eq!(leases.due(until_ms, |_| true), [(NODE, NodeState::Down)]);
}

/// A freeze is stopped after 10 s: the node is granted ordinary leases and says from which heartbeat its own counts.
fn stopped(sent: u64, confirms: u64) -> LeaderLeases {
    let mut leases = beside_another(NodeState::Ready);
    leases.extend(60_000);
    (1..=20).for_each(|sequence| {
        leases.granted(NODE, 500 * sequence);
        leases.sent(NODE, sequence);
    });
    leases.outlast(50_000);
    leases.granted(NODE, 10_500);
    leases.sent(NODE, sent);
    leases.granted(NODE, 11_000);
    leases.confirmed(NODE, confirms);
    leases
}

#[test]
fn a_worker_that_confirms_a_shorter_lease_is_waited_for_no_longer_than_that() {
    let policy = LeasePolicy::default();
    let down = |leases: &mut LeaderLeases, at_ms: u64| leases.due(at_ms, |_| true).contains(&(NODE, NodeState::Down));
    let short_ms = 11_000 + policy.manager_wait_ms();
    let mut leases = stopped(21, 21);
    // A leader says it again with each turn.
    leases.outlast(49_000);
    assert!(!down(&mut leases, short_ms - 1) && down(&mut leases, short_ms));
    // One of the last long grants may have been the one that arrived, or none has since.
    for confirms in [0, 20] {
        let mut leases = stopped(21, confirms);
        let long_ms = 11_000 + policy.manager_wait_for_ms(59_000);
        assert!(!down(&mut leases, short_ms) && !down(&mut leases, long_ms - 1) && down(&mut leases, long_ms));
    }
    // In a new session heartbeats are counted from the beginning.
    assert!(down(&mut stopped(1, 1), short_ms));
}

#[test]
fn a_lease_that_was_confirmed_short_is_long_again_with_the_next_freeze() {
    let policy = LeasePolicy::default();
    let mut leases = stopped(21, 21);
    leases.extend(60_000);
    leases.granted(NODE, 12_000);
    leases.outlast(59_000);
    leases.confirmed(NODE, 21);
    let due = leases.due(12_000 + policy.manager_wait_for_ms(59_000) - 1, |_| true);
    assert_eq!(due, [(NODE, NodeState::Disconnected)]);
}

#[test]
fn a_grant_makes_a_node_ready_and_its_time_start_again() {
    let policy = LeasePolicy::default();
    let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Disconnected)]);
    leases.granted(NODE, 1_000);
    assert_eq!(leases.due(1_000 + policy.disconnected_after_ms - 1, |_| true), []);
    assert_eq!(leases.next_deadline_ms(1_000), Some(1_000 + policy.disconnected_after_ms));
}

#[test]
fn all_are_heard_when_each_was_or_was_given_up_and_strangers_have_had_their_time() {
    let policy = LeasePolicy::default();
    let nodes = [1, 2, 3].map(NodeId::from_random);
    let told = [NodeState::Ready, NodeState::Ready, NodeState::Down];
    let mut leases = LeaderLeases::new(policy, 0, nodes.into_iter().zip(told));
    assert!(!leases.are_all_heard(1_000_000), "nobody is heard, so nobody knows that managers live");
    let wait_ms = policy.manager_wait_ms();
    hear(&mut leases, nodes[0], 0, wait_ms);
    assert!(!leases.are_all_heard(wait_ms), "one is neither heard nor given up");
    leases.granted(nodes[1], wait_ms);
    assert!(!leases.are_all_heard(wait_ms - 1), "one that nobody knows may still hold a lease");
    assert!(leases.are_all_heard(wait_ms));

    let mut alone = LeaderLeases::new(policy, 0, [(nodes[0], NodeState::Ready), (nodes[1], NodeState::Ready)]);
    hear(&mut alone, nodes[0], 0, wait_ms);
    assert_eq!(alone.due(wait_ms, |_| true), [(nodes[1], NodeState::Down)]);
    assert!(alone.are_all_heard(wait_ms));
}

#[test]
fn a_node_that_nobody_was_asked_about_is_not_called_down() {
    let wait_ms = LeasePolicy::default().manager_wait_ms();
    let mut leases = beside_another(NodeState::Ready);
    let mut over = Vec::new();
    let may_be_down = |node| {
        over.push(node);
        false
    };
    assert_eq!(leases.due_if(wait_ms, |_| true, may_be_down), [(NODE, NodeState::Disconnected)]);
    assert_eq!(over, [NODE]);
    assert_eq!(leases.due_if(wait_ms + 1, |_| true, |_| true), [(NODE, NodeState::Down)]);
}

#[test]
fn a_state_that_was_not_told_is_due_again_unless_the_node_was_heard_meanwhile() {
    let wait_ms = LeasePolicy::default().manager_wait_ms();
    let mut leases = beside_another(NodeState::Ready);
    assert_eq!(leases.due(wait_ms, |_| true), [(NODE, NodeState::Down)]);
    leases.untold_if(NODE, NodeState::Down, NodeState::Disconnected);
    assert_eq!(leases.due(wait_ms + 1, |_| true), [(NODE, NodeState::Down)]);
    leases.registered(NODE, wait_ms + 2);
    leases.untold_if(NODE, NodeState::Down, NodeState::Disconnected);
    assert_eq!(leases.due(wait_ms + 2, |_| true), []);
    assert!(leases.doubtful(wait_ms + 3).is_empty());
}
