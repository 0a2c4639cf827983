//! A worker that runs nothing and says what the test wants.

use std::collections::BTreeSet;
use std::time::Duration;

use goat_proto::v1::{
    Assignment, Heartbeat, Hello, Inventory, ManagerMessage, Resources, TaskReport, TaskReports, Welcome,
    WorkerMessage, manager_message, worker_message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::{DEADLINE, Manager};

/// A session, after its first answer.
pub struct Session {
    to_leader: mpsc::Sender<WorkerMessage>,
    from_leader: Streaming<ManagerMessage>,
    pub term: u64,
}

pub fn hello(node_id: &str, name: &str) -> Hello {
    Hello {
        node_id: node_id.into(),
        name: name.into(),
        address: "127.0.0.1".into(),
        inventory: Some(Inventory {
            total: Some(Resources { cpu_millis: 8_000, memory_bytes: 8 << 30, disk_bytes: 80 << 30 }),
            drivers: vec!["docker".into()],
            disk_free_bytes: 80 << 30,
            ..Inventory::default()
        }),
        ..Hello::default()
    }
}

/// Says hello; the manager's first answer.
pub async fn open(manager: &Manager, hello: Hello) -> Result<(Session, manager_message::Message), Status> {
    let (to_leader, messages) = mpsc::channel(64);
    let message = WorkerMessage { message: Some(worker_message::Message::Hello(hello)) };
    to_leader.send(message).await.expect("there is room");
    let from_leader = manager.dispatcher().await?.session(ReceiverStream::new(messages)).await?.into_inner();
    let mut session = Session { to_leader, from_leader, term: 0 };
    let first = session.next().await?;
    Ok((session, first))
}

impl Session {
    /// The manager's next message.
    pub async fn next(&mut self) -> Result<manager_message::Message, Status> {
        let message =
            tokio::time::timeout(DEADLINE, self.from_leader.message()).await.expect("it says something in time")?;
        let message = message.ok_or_else(|| Status::unavailable("the session ended"))?;
        self.term = message.term;
        message.message.ok_or_else(|| Status::internal("an empty message"))
    }

    pub async fn send(&self, message: worker_message::Message) {
        let _ = self.to_leader.send(WorkerMessage { message: Some(message) }).await;
    }

    pub async fn beat(&self, sequence: u64) {
        self.send(worker_message::Message::Heartbeat(Heartbeat { sequence, ..Heartbeat::default() })).await;
    }

    pub async fn report(&self, sequence: u64, task_id: &str, state: &str) {
        let report = TaskReport { task_id: task_id.into(), state: state.into(), at_ms: 1, ..TaskReport::default() };
        self.send(worker_message::Message::Reports(TaskReports { sequence, reports: vec![report] })).await;
    }

    /// Waits until a batch of reports is durable; those before it have been acknowledged before.
    pub async fn acknowledged(&mut self, sequence: u64) {
        loop {
            if let manager_message::Message::Ack(ack) = self.next().await.expect("the session lives") {
                return assert_eq!(ack.sequence, sequence);
            }
        }
    }

    /// The full set, which comes before anything else is said of tasks.
    pub async fn all_tasks(&mut self) -> Vec<Assignment> {
        loop {
            match self.next().await.expect("the session lives") {
                manager_message::Message::Assignments(all) => return all.tasks,
                manager_message::Message::Peers(_) | manager_message::Message::Managers(_) => {}
                other => panic!("no full set: {other:?}"),
            }
        }
    }

    /// Where managers are, when that is told next.
    pub async fn managers(&mut self) -> Vec<String> {
        loop {
            if let manager_message::Message::Managers(managers) = self.next().await.expect("the session lives") {
                return managers.addresses;
            }
        }
    }

    /// Tasks that are told from here on, until one fits.
    pub async fn told(&mut self, fits: impl Fn(&Assignment) -> bool) -> Assignment {
        // Grants go on coming, so that the session is never silent.
        let told = async {
            loop {
                let tasks = match self.next().await.expect("the session lives") {
                    manager_message::Message::Assignments(all) => all.tasks,
                    manager_message::Message::Changes(changes) => changes.set,
                    _ => continue,
                };
                if let Some(task) = tasks.into_iter().find(&fits) {
                    return task;
                }
            }
        };
        tokio::time::timeout(DEADLINE, told).await.expect("it is told in time")
    }

    /// Receives assignments until so many different tasks were among them.
    pub async fn told_all(&mut self, count: usize) {
        let mut seen = BTreeSet::new();
        let all_seen = async {
            while seen.len() < count {
                match self.next().await.expect("the session lives") {
                    manager_message::Message::Assignments(all) => {
                        seen.extend(all.tasks.into_iter().map(|task| task.task_id))
                    }
                    manager_message::Message::Changes(changes) => {
                        seen.extend(changes.set.into_iter().map(|task| task.task_id));
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, all_seen).await.expect("all tasks arrive in time");
    }

    /// Beats until the session ends, in the background.
    pub fn keep_beating(&self, every: Duration) {
        self.keep_beating_from(1, every);
    }

    pub fn keep_beating_from(&self, first: u64, every: Duration) {
        let to_leader = self.to_leader.clone();
        tokio::spawn(async move {
            for sequence in first.. {
                let beat = worker_message::Message::Heartbeat(Heartbeat { sequence, ..Heartbeat::default() });
                if to_leader.send(WorkerMessage { message: Some(beat) }).await.is_err() {
                    return;
                }
                tokio::time::sleep(every).await;
            }
        });
    }
}

/// The welcome in a first answer.
pub fn welcomed(answer: manager_message::Message) -> Welcome {
    match answer {
        manager_message::Message::Welcome(welcome) => welcome,
        other => panic!("no welcome: {other:?}"),
    }
}
