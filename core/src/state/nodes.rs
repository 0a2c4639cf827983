//! Applying what is said of nodes: they register, are drained, fall silent, come back, are removed.
//!
//! ```text
//! register ─► ready ─ silent ─► disconnected ─ fenced ─► down (its tasks are lost)
//!               ▲                     │                   │
//!               └──────── heard ──────┘                   │
//!               └── registers again: what it still runs of `keep` services may be taken back ──┘
//! ```

use std::collections::BTreeMap;

use super::Revoked;
use super::apply::{Apply, Done};
use super::change::NodeChange;
use super::command::{Answer, Refusal};
use super::rows::{node_key, revoked_key, revoked_row};
use crate::codec::{self, BOUNDED_FORMAT};
use crate::model::validate::validate_name;
use crate::model::{
    Availability, Cause, Desired, Inventory, MAX_OPERATOR_LABEL_BYTES, MAX_OPERATOR_LABELS, Node, NodeId, NodeState,
    OPERATOR_LABEL_PREFIX, OnDisconnect, Task, TaskId, TaskState, reason,
};

/// Longer than a worker's certificate lasts. Under the first format a removed node was forgotten then.
const REVOKED_FOR_MS: u64 = 120 * 24 * 3_600_000;
/// Removed nodes whose certificates may still be valid. One more is removed only after a rotation of the authority.
pub const MAX_REVOKED: usize = 100_000;

const MAX_DRAIN_MS: u64 = 30 * 24 * 3_600_000;

impl Apply<'_> {
    fn node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.state.nodes.get(&id).ok_or(Refusal::NoSuchNode { id })
    }

    pub(super) fn set_availability(&mut self, id: NodeId, availability: Availability) -> Done {
        let mut node = self.node(id)?.clone();
        (node.availability, node.drain_until_ms) = (availability, None);
        Ok(self.put_node(node))
    }

    pub(super) fn drain_node(&mut self, id: NodeId, within_ms: u64) -> Done {
        if within_ms == 0 || within_ms > MAX_DRAIN_MS {
            let problem =
                format!("{within_ms} ms is not between 1 ms and 30 days; without a deadline tasks go at once");
            return Err(Refusal::Invalid { field: "deadline".into(), problem });
        }
        let mut node = self.node(id)?.clone();
        node.availability = Availability::Drain;
        node.drain_until_ms = Some(self.now_ms.saturating_add(within_ms));
        Ok(self.put_node(node))
    }

    pub(super) fn revoke_node(&mut self, id: NodeId) -> Done {
        let node = self.node(id)?.clone();
        if self.state.security.is_none() {
            let what = "the cluster runs with --plaintext: its nodes have no certificates to refuse";
            return Err(Refusal::Impossible { what: what.into() });
        }
        self.revoke(id);
        Ok(self.put_node(node))
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Done {
        let node = self.node(id)?;
        // One that is drained and empty has nothing to be fenced.
        let is_left = node.availability == Availability::Drain && self.state.node_use(id).tasks == 0;
        if node.state != NodeState::Down && !is_left {
            return Err(Refusal::NodeNotDown { name: node.name.clone(), state: node.state });
        }
        let is_secured = self.state.security.is_some();
        if is_secured && self.state.is_bounded() && self.state.revoked.len() >= MAX_REVOKED {
            return Err(Refusal::Impossible {
                what: format!(
                    "{MAX_REVOKED} removed nodes are remembered, the most there may be, since their certificates may be \
                     valid: after `goatctl cluster ca rotate` they are not, and are forgotten"
                ),
            });
        }
        let node = node.clone();
        self.state.nodes.remove(&id);
        self.state.index.node_names.remove(&node.name);
        self.delete(node_key(id));
        self.changes.nodes.push(NodeChange { node: id, from: Some(node.state), to: None });
        if is_secured {
            self.revoke(id);
        }
        Ok(Answer::Node { id, version: self.at.index })
    }

    /// Its certificate is refused from now on, until the authority that signed it is not believed any more. How long it is
    /// valid is not asked: clocks may be wrong.
    fn revoke(&mut self, id: NodeId) {
        if !self.state.is_bounded() {
            self.forget_expired();
        }
        let version = if self.state.is_bounded() { self.at.index } else { 0 };
        let revoked = Revoked { at_ms: self.now_ms, version };
        self.state.revoked.insert(id, revoked);
        self.rows.push(revoked_row(id, revoked));
        self.changes.security = true;
    }

    /// A rotation has ended: what was signed before another authority began to sign is worth nothing.
    pub(super) fn forget_revoked_before(&mut self, version: u64) {
        let (before, left) =
            std::mem::take(&mut self.state.revoked).into_iter().partition(|(_, row)| row.version < version);
        self.state.revoked = left;
        let before: BTreeMap<NodeId, Revoked> = before;
        before.into_keys().for_each(|id| self.delete(revoked_key(id)));
    }

    fn forget_expired(&mut self) {
        let expired_ms = self.now_ms.saturating_sub(REVOKED_FOR_MS);
        let expired: Vec<NodeId> =
            self.state.revoked.iter().filter(|(_, row)| row.at_ms < expired_ms).map(|(id, _)| *id).collect();
        for old in expired {
            self.state.revoked.remove(&old);
            self.delete(revoked_key(old));
        }
    }

    pub(super) fn register_node(
        &mut self,
        id: NodeId,
        name: &str,
        address: &str,
        labels: &BTreeMap<String, String>,
        inventory: &Inventory,
    ) -> Done {
        validate_name(name).map_err(|invalid| Refusal::Invalid { field: "name".into(), problem: invalid.problem })?;
        if self.state.is_revoked(id) {
            return Err(Refusal::NodeRemoved { id });
        }
        let is_name_kept = self.state.format() >= BOUNDED_FORMAT && self.state.nodes.contains_key(&id);
        self.free_node_name(id, name, is_name_kept)?;
        let labels = self.labels_of(id, labels);
        let known = self.state.nodes.get(&id);
        let state_since_ms = match known {
            Some(node) if node.state == NodeState::Ready => node.state_since_ms,
            _ => self.now_ms,
        };
        let node = Node {
            id,
            name: name.to_owned(),
            address: address.to_owned(),
            labels,
            state: NodeState::Ready,
            availability: known.map(|node| node.availability).unwrap_or_default(),
            drain_until_ms: known.and_then(|node| node.drain_until_ms),
            inventory: inventory.clone(),
            registered_at_ms: known.map_or(self.now_ms, |node| node.registered_at_ms),
            state_since_ms,
            stocked: known.map_or(0, |node| node.stocked),
            version: 0,
        };
        Ok(self.put_node(node))
    }

    /// A name belongs to one node. One that is down yields it, and is called by its id from then on, with a number where
    /// that name is taken as well.
    /// `is_kept`: the node has registered before, and may not take the name of another one, which tasks may be bound to.
    fn free_node_name(&mut self, id: NodeId, name: &str, is_kept: bool) -> Result<(), Refusal> {
        let Some(holder) = self.state.node_by_name(name).filter(|holder| holder.id != id) else {
            return Ok(());
        };
        if is_kept && holder.state == NodeState::Down {
            let what = format!(
                "node {id} has registered before and cannot take the name {name} of node {}: remove that node first (`goatctl node rm \
                 {}`), or give the worker another name",
                holder.id, holder.id
            );
            return Err(Refusal::Impossible { what });
        }
        if holder.state != NodeState::Down {
            return Err(Refusal::NodeNameTaken { name: name.to_owned() });
        }
        let mut holder = holder.clone();
        let names = &self.state.index.node_names;
        let numbered = (2..).map(|number: u64| format!("{}-{number}", holder.id));
        let mut others = std::iter::once(holder.id.to_string()).chain(numbered);
        holder.name = others.find(|other| !names.contains_key(other)).expect("numbers do not run out before nodes do");
        self.put_node(holder);
        Ok(())
    }

    /// A node's labels after its hello: those that it declares, and those that an operator has set.
    fn labels_of(&self, id: NodeId, declared: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.state.format() < BOUNDED_FORMAT {
            return declared.clone();
        }
        let is_operators = |key: &String| key.starts_with(OPERATOR_LABEL_PREFIX);
        let known = self.state.nodes.get(&id).into_iter().flat_map(|node| &node.labels);
        let set = known.filter(|(key, _)| is_operators(key));
        let declared = declared.iter().filter(|(key, _)| !is_operators(key));
        set.chain(declared).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(super) fn set_node_labels(&mut self, id: NodeId, set: &BTreeMap<String, String>, remove: &[String]) -> Done {
        let mut node = self.node(id)?.clone();
        for (key, value) in set {
            check_operator_label(key, value)?;
        }
        for key in remove {
            check_operator_label(key, "")?;
            node.labels.remove(key);
        }
        node.labels.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        let count = node.labels.keys().filter(|key| key.starts_with(OPERATOR_LABEL_PREFIX)).count();
        if count > MAX_OPERATOR_LABELS {
            let problem = format!(
                "the node would have {count} labels of {OPERATOR_LABEL_PREFIX}, and at most {MAX_OPERATOR_LABELS} are allowed"
            );
            return Err(Refusal::Invalid { field: "labels".into(), problem });
        }
        Ok(self.put_node(node))
    }

    pub(super) fn update_inventory(&mut self, id: NodeId, inventory: &Inventory) -> Done {
        let mut node = self.node(id)?.clone();
        node.inventory = inventory.clone();
        Ok(self.put_node(node))
    }

    pub(super) fn set_node_state(&mut self, id: NodeId, seen_version: u64, state: NodeState) -> Done {
        let mut node = self.node(id)?.clone();
        if node.version != seen_version {
            return Err(Refusal::Stale { seen: seen_version, found: node.version });
        }
        if node.state != state {
            node.state = state;
            node.state_since_ms = self.now_ms;
        }
        let answer = self.put_node(node);
        if state == NodeState::Down {
            self.lose_tasks_of(id);
        }
        Ok(answer)
    }

    fn lose_tasks_of(&mut self, node: NodeId) {
        let lost: Vec<Task> =
            self.state.tasks_of_node(node).filter(|task| !task.state.is_terminal()).cloned().collect();
        for mut task in lost {
            task.fenced = self.state.spec_of(&task).is_some_and(|spec| spec.on_disconnect().is_leased());
            task.state = TaskState::Lost;
            task.reason = Some(reason::NODE_LOST.into());
            task.finished_at_ms = Some(self.now_ms);
            self.put_task(task, Cause::NodeLost);
        }
    }

    fn put_node(&mut self, mut node: Node) -> Answer {
        node.version = self.at.index;
        let before = self.state.nodes.get(&node.id);
        if let Some(before) = before
            && before.name != node.name
        {
            self.state.index.node_names.remove(&before.name);
        }
        let change = NodeChange { node: node.id, from: before.map(|before| before.state), to: Some(node.state) };
        self.changes.nodes.push(change);
        self.write(node_key(node.id), codec::encode(&node));
        let answer = Answer::Node { id: node.id, version: node.version };
        self.state.index.node_names.insert(node.name.clone(), node.id);
        self.state.nodes.insert(node.id, node);
        answer
    }

    pub(super) fn stocked(&mut self, id: NodeId) {
        if let Some(node) = self.state.node(id).cloned() {
            self.put_node(Node { stocked: self.at.index, ..node });
        }
    }

    pub(super) fn is_down(&self, id: NodeId) -> bool {
        self.state.node(id).is_some_and(|node| node.state == NodeState::Down)
    }

    /// The node was down and is back, and says what it still runs. Of the two that a slot then has, the older is kept.
    pub(super) fn take_back(&mut self, node: NodeId, running: &[TaskId]) {
        let mut oldest_first: Vec<TaskId> = running.to_vec();
        oldest_first.sort_by_key(|id| self.state.task(*id).map_or(0, |task| task.fencing_token));
        for id in oldest_first {
            if let Some(task) = self.may_return(node, id).cloned() {
                self.return_task(task);
            }
        }
        self.leave_lost(node);
    }

    /// What is not taken back now is never: its worker stops it, because it is not told of it, and may still claim it in a
    /// hello that comes later than that.
    fn leave_lost(&mut self, node: NodeId) {
        let of_node = self.state.tasks_of_node(node);
        let left = of_node.filter(|task| task.state == TaskState::Lost && !task.fenced).cloned();
        for mut task in left.collect::<Vec<_>>() {
            task.fenced = true;
            let cause = task.cause;
            self.put_task(task, cause);
        }
    }

    /// A task that was lost without having been fenced, that its slot still wants as it is, and for which its node has
    /// room. What is refused here, its worker stops, because it is not among what it is told to run.
    fn may_return(&self, node: NodeId, id: TaskId) -> Option<&Task> {
        let task = self.state.task(id)?;
        let is_its_own = task.node == Some(node) && task.state == TaskState::Lost && !task.fenced;
        let service = self.state.service(task.service)?;
        let is_wanted = task.desired == Desired::Running
            && !service.removed
            && (1..=service.spec.replicas()).contains(&task.slot)
            && task.spec_version == service.spec_version
            && service.spec.on_disconnect() == OnDisconnect::Keep;
        let mut others = self.state.slot(task.service, task.slot).iter().filter_map(|id| self.state.task(*id));
        // The slot is done, or what stands in for it is older yet.
        let is_settled = others.any(|other| match other.state {
            TaskState::Complete => other.attempt > task.attempt,
            state if state.is_terminal() => false,
            _ => other.desired == Desired::Running && (1..task.fencing_token).contains(&other.fencing_token),
        });
        (is_its_own && is_wanted && !is_settled && self.can_take(node, task)).then_some(task)
    }

    /// The one way back from `lost`. It becomes the newest of its slot, so that what follows it follows what ran last.
    fn return_task(&mut self, mut task: Task) {
        let slot = self.state.slot(task.service, task.slot).to_vec();
        let newest = slot.last().and_then(|id| self.state.task(*id)).filter(|newest| newest.id != task.id);
        if let Some(newest) = newest {
            let Some(attempt) = newest.attempt.checked_add(1) else { return };
            (task.attempt, task.previous) = (attempt, Some(newest.id));
        }
        for other in slot.into_iter().filter(|other| *other != task.id) {
            if self.state.task(other).is_some_and(|other| !other.state.is_terminal()) {
                self.desire(other, Desired::Stopped, Cause::NodeBack);
            }
        }
        task.state = TaskState::Running;
        task.started_at_ms.get_or_insert(self.now_ms);
        (task.finished_at_ms, task.reason) = (None, None);
        task.returned = self.at.index;
        self.put_task(task, Cause::NodeBack);
    }
}

fn check_operator_label(key: &str, value: &str) -> Result<(), Refusal> {
    let problem = if !key.starts_with(OPERATOR_LABEL_PREFIX) || key.len() == OPERATOR_LABEL_PREFIX.len() {
        format!(
            "{key:?} must begin with {OPERATOR_LABEL_PREFIX} and go on: other labels are set in the worker's configuration"
        )
    } else if key.len() > MAX_OPERATOR_LABEL_BYTES || value.len() > MAX_OPERATOR_LABEL_BYTES {
        let (key, value) = (key.len(), value.len());
        format!("key and value have {key} and {value} bytes, and at most {MAX_OPERATOR_LABEL_BYTES} each are allowed")
    } else {
        return Ok(());
    };
    Err(Refusal::Invalid { field: "labels".into(), problem })
}
