//! What managers made up for a test share: one world of services, tasks and nodes.
//!
//! What happens to tasks is decided when somebody looks, so that a test needs no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use goat_proto::v1::*;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tonic::Status as Refusal;

/// Few, so that whoever asks has to ask on.
pub const TASKS_A_PAGE: usize = 5;
pub const CREATED_MS: u64 = 1_700_000_000_000;

/// What becomes of a service's tasks.
#[derive(Debug, Clone, Default)]
pub enum Fate {
    #[default]
    Run,
    /// They stay in a state, with an error, even where they are to go.
    Stay(&'static str, &'static str),
    /// They end with this code, and nothing follows.
    End(i32),
    /// They run at one look, have ended with this code at the next, and others follow.
    Crash(i32),
}

#[derive(Debug, Default)]
pub struct State {
    pub fate: Fate,
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
    pub nodes: Vec<Node>,
    pub peers: Vec<Peer>,
    pub status: Status,
    pub past: Vec<Event>,
    /// Every mutation that came in: its name and request id, repeats included.
    pub mutations: Vec<(&'static str, String)>,
    pub log_requests: Vec<TaskLogsRequest>,
    /// Output that `task logs` gets instead of two lines, and who is told that the reader has stopped.
    pub long_log: Option<LongLog>,
    pub updates: Vec<UpdateServiceRequest>,
    /// A variable that somebody else sets just before the next update.
    pub rival: Option<(&'static str, &'static str)>,
    /// What was answered, by request id.
    pub answers: HashMap<String, ServiceReply>,
    /// What a saved snapshot consists of, and then its stream breaks where it has to.
    pub pieces: Vec<SnapshotPiece>,
    pub breaks: bool,
    /// Of managers, for a bug report.
    pub reports: Vec<DebugReport>,
    pub restores: Vec<RestoreServicesRequest>,
    index: u64,
}

/// Output of that many pieces of a line each.
#[derive(Debug, Clone)]
pub struct LongLog {
    pub line: &'static str,
    pub lines_a_piece: usize,
    pub pieces: usize,
    /// The reader took nothing for so long.
    pub stalled: Duration,
    pub is_stalled: Arc<Notify>,
}

/// What the managers share.
#[derive(Debug)]
pub struct World {
    pub state: Mutex<State>,
    pub events: broadcast::Sender<Event>,
}

impl World {
    pub fn new() -> Arc<Self> {
        let state = State { index: 100, status: status(), nodes: vec![node("w1", 2)], ..State::default() };
        Arc::new(Self { state: Mutex::new(state), events: broadcast::channel(64).0 })
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    pub fn emit(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.state.lock().past.push(event.clone());
            // Without a listener it is remembered, and that is all.
            let _ = self.events.send(event);
        }
    }

    pub fn with_service(self: Arc<Self>, name: &str, replicas: u32) -> Arc<Self> {
        self.change(|state| {
            let spec = ServiceSpec { name: name.into(), image: "echo:1".into(), replicas, ..Default::default() };
            state.create(spec);
        });
        self
    }
}

impl State {
    pub fn next(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    pub fn create(&mut self, spec: ServiceSpec) -> ServiceReply {
        let index = self.next();
        self.services.push(Service {
            id: format!("service{index:05}"),
            replicas_desired: spec.replicas,
            spec: Some(spec),
            spec_version: index,
            version: index,
            created_at_ms: CREATED_MS,
            updated_at_ms: CREATED_MS,
            ..Default::default()
        });
        self.settle();
        self.reply(self.services.len() - 1, index)
    }

    /// The answer to a change of that service.
    pub fn reply(&self, at: usize, index: u64) -> ServiceReply {
        let (id, spec) = (self.services[at].id.clone(), self.services[at].spec.as_ref());
        ServiceReply { id, version: index, index, name: spec.map(|spec| spec.name.clone()).unwrap_or_default() }
    }

    /// Makes the tasks what the services want, as far as fate lets it.
    pub fn settle(&mut self) {
        let wanted: HashMap<String, (String, u32)> = self
            .services
            .iter()
            .map(|service| {
                let name = service.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
                (service.id.clone(), (name, if service.removed { 0 } else { service.replicas_desired }))
            })
            .collect();
        self.tasks.retain(|task| wanted.get(&task.service_id).is_some_and(|(_, replicas)| task.slot <= *replicas));
        for (id, (name, replicas)) in &wanted {
            for slot in 1..=*replicas {
                if !self.tasks.iter().any(|task| task.service_id == *id && task.slot == slot) {
                    let index = self.next();
                    self.tasks.push(task(name, id, slot, index));
                }
            }
        }
        for task in self.tasks.iter_mut().filter(|task| task.exit_code.is_none()) {
            match &self.fate {
                Fate::Crash(_) => break,
                Fate::Run => task.state = "running".into(),
                Fate::Stay(state, error) => {
                    task.state = (*state).into();
                    task.error = (*error).into();
                }
                Fate::End(code) => {
                    task.state = if *code == 0 { "complete" } else { "failed" }.into();
                    task.exit_code = Some(*code);
                }
            }
        }
        self.crash();
        let running = |id: &str, tasks: &[Task]| {
            tasks.iter().filter(|task| task.service_id == id && task.state == "running").count() as u32
        };
        for service in &mut self.services {
            service.replicas_running = running(&service.id, &self.tasks);
        }
    }

    /// If that is their fate, what runs fails, and what has failed is followed by another attempt.
    fn crash(&mut self) {
        let Fate::Crash(code) = self.fate else { return };
        let mut next = Vec::new();
        for at in 0..self.tasks.len() {
            let task = self.tasks[at].clone();
            let is_newest = !self.tasks.iter().any(|other| other.slot == task.slot && other.attempt > task.attempt);
            match task.exit_code {
                Some(_) if is_newest => {
                    let index = self.next();
                    let attempt = task.attempt + 1;
                    let text = Task { attempt, exit_code: None, error: String::new(), ..task };
                    let (id, state) = (format!("task{index:08}"), "running".into());
                    next.push(Task { id, state, fencing_token: index, version: index, ..text });
                }
                Some(_) => {}
                None => {
                    self.tasks[at].state = "failed".into();
                    self.tasks[at].exit_code = Some(code);
                    self.tasks[at].error = format!("container {} exited", self.tasks[at].id);
                }
            }
        }
        self.tasks.extend(next);
    }

    pub fn tasks_stay(&self) -> bool {
        matches!(self.fate, Fate::Stay(..))
    }

    pub fn find(&self, reference: &str) -> Result<usize, Refusal> {
        let names = |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.name == reference);
        let found = self.services.iter().position(|service| service.id == reference || names(service));
        found.ok_or_else(|| Refusal::not_found(format!("no service {reference:?}")))
    }

    pub fn list_tasks(&self, request: &ListTasksRequest) -> ListTasksReply {
        let fits = |task: &&Task| {
            (request.service.is_empty() || [&task.service, &task.service_id].contains(&&request.service))
                && (request.node.is_empty() || [&task.node, &task.node_id].contains(&&request.node))
                && (request.all || !matches!(task.state.as_str(), "failed" | "complete" | "stopped"))
        };
        let from: usize = request.page.parse().unwrap_or(0);
        let mut tasks: Vec<_> = self.tasks.iter().filter(fits).skip(from).cloned().collect();
        let next = if tasks.len() > TASKS_A_PAGE { (from + TASKS_A_PAGE).to_string() } else { String::new() };
        tasks.truncate(TASKS_A_PAGE);
        ListTasksReply { read: None, tasks, next }
    }

    /// Somebody else changes the service before an update, if that is due; the index of the update.
    pub fn let_rival_change(&mut self, at: usize, index: u64) -> u64 {
        let Some((key, value)) = self.rival.take() else { return index };
        let service = &mut self.services[at];
        service.spec.get_or_insert_default().env.insert(key.into(), value.into());
        service.version = index;
        self.next()
    }

    pub fn remove_node(&mut self, reference: &str) -> Result<NodeReply, Refusal> {
        let (index, node) = (self.next(), self.node(reference)?.clone());
        if node.state != "down" {
            let text = format!("node {:?} is ready; one must be down, or drained and empty, to go", node.name);
            return Err(Refusal::failed_precondition(text));
        }
        self.nodes.retain(|other| other.id != node.id);
        Ok(NodeReply { id: node.id, version: index, index, name: node.name })
    }

    pub fn node(&mut self, reference: &str) -> Result<&mut Node, Refusal> {
        let found = self.nodes.iter_mut().find(|node| node.id == reference || node.name == reference);
        found.ok_or_else(|| Refusal::not_found(format!("no node {reference:?}")))
    }
}

pub fn task(service: &str, service_id: &str, slot: u32, index: u64) -> Task {
    Task {
        id: format!("task{index:08}"),
        service: service.into(),
        service_id: service_id.into(),
        slot,
        node: "w1".into(),
        node_id: "node0000000w1".into(),
        state: "running".into(),
        desired: "running".into(),
        attempt: 1,
        created_at_ms: CREATED_MS,
        started_at_ms: Some(CREATED_MS + 1_500),
        container_id: "c0ffee".into(),
        cause: "user".into(),
        fencing_token: index,
        version: index,
        ..Default::default()
    }
}

pub fn node(name: &str, tasks: u32) -> Node {
    Node {
        id: format!("node0000000{name}"),
        name: name.into(),
        state: "ready".into(),
        availability: "active".into(),
        address: "127.0.0.2".into(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        tasks,
        inventory: Some(Inventory { drivers: vec!["docker".into()], ..Default::default() }),
        ..Default::default()
    }
}

fn status() -> Status {
    Status {
        cluster_id: "cluster00000".into(),
        leader: "m1".into(),
        term: 3,
        managers: Some(Managers { total: 3, reachable: 2 }),
        nodes: [("ready".into(), 1), ("total".into(), 1)].into(),
        services: 1,
        tasks: [("running".into(), 2), ("total".into(), 2)].into(),
        ..Default::default()
    }
}
