//! Docker's container events, and what of earlier ones explains an exit: the signals that a container was sent through Docker, and
//! that its memory ran out. Pure.

use std::collections::HashMap;

use bollard::models::EventMessage;
use goat_core::model::TaskId;
use nix::sys::signal::Signal;

use super::labels;
use crate::clock;
use crate::task::Exit;

/// A program may take so long between a signal and its end; later, the signal is not the reason.
const SIGNAL_COUNTS_MS: u64 = 3_600_000;
/// Of containers that have not ended. One that is forgotten costs an explanation.
const MAX_CONTAINERS: usize = 4_096;

/// An event of a container with a task's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happened {
    pub task: TaskId,
    pub container_id: String,
    pub action: Action,
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Die {
        code: Option<i32>,
    },
    Start,
    /// Its limits or its restart policy were changed.
    Update,
    /// It was sent a signal through Docker.
    Kill {
        signal: i32,
    },
    /// The kernel killed a process of it for want of memory.
    OutOfMemory,
    Destroy,
}

impl Action {
    /// Docker's words for them.
    pub(super) const WORDS: [&'static str; 6] = ["die", "start", "update", "kill", "oom", "destroy"];
}

impl Happened {
    /// `None` for a container that is not a task's.
    pub(super) fn read(message: EventMessage) -> Option<Self> {
        let at_ms = message.time_nano.map_or_else(clock::now_ms, |nanos| nanos.max(0) as u64 / 1_000_000);
        let actor = message.actor?;
        let attributes = actor.attributes?;
        let number = |key: &str| attributes.get(key).and_then(|text| text.parse().ok());
        let action = match message.action?.as_str() {
            "die" => Action::Die { code: number("exitCode") },
            "start" => Action::Start,
            "update" => Action::Update,
            "kill" => Action::Kill { signal: number("signal")? },
            "oom" => Action::OutOfMemory,
            "destroy" => Action::Destroy,
            _ => return None,
        };
        Some(Self { task: labels::read_task(&attributes)?, container_id: actor.id?, action, at_ms })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Earlier {
    /// The last signal that asks for an end, and when it was sent.
    signal: Option<(i32, u64)>,
    is_oom: bool,
}

/// Events of containers before they ended.
#[derive(Debug, Default)]
pub(super) struct History(HashMap<String, Earlier>);

impl History {
    pub(super) fn note(&mut self, container_id: String, action: &Action, at_ms: u64) {
        if self.0.len() >= MAX_CONTAINERS {
            self.0.clear();
        }
        match action {
            Action::Kill { signal } if asks_for_an_end(*signal) => {
                self.0.entry(container_id).or_default().signal = Some((*signal, at_ms));
            }
            Action::OutOfMemory => self.0.entry(container_id).or_default().is_oom = true,
            Action::Destroy => self.forget(&container_id),
            _ => {}
        }
    }

    pub(super) fn forget(&mut self, container_id: &str) {
        self.0.remove(container_id);
    }

    /// The exit of a container that has just ended.
    pub(super) fn exit(&mut self, container_id: &str, code: Option<i32>, at_ms: u64) -> Exit {
        let Earlier { signal, is_oom } = self.0.remove(container_id).unwrap_or_default();
        let counts = |(_, sent_ms): &(i32, u64)| at_ms.saturating_sub(*sent_ms) <= SIGNAL_COUNTS_MS;
        Exit { code, is_oom, at_ms, signal: signal.filter(counts).map(|(signal, _)| signal), failure: None }
    }
}

/// Whether it is not one that programs take as a message, to read their configuration again for instance.
fn asks_for_an_end(signal: i32) -> bool {
    use Signal::{SIGCHLD, SIGCONT, SIGHUP, SIGSTOP, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
    let messages = [SIGCHLD, SIGCONT, SIGHUP, SIGSTOP, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH];
    !messages.into_iter().any(|message| message as i32 == signal)
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;

    fn message(action: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let task = TaskId::from_random(1).to_string();
        let mut attributes: HashMap<_, _> =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        attributes.insert("io.goat.task".into(), task);
        EventMessage {
            action: Some(action.into()),
            actor: Some(EventActor { id: Some("c".into()), attributes: Some(attributes) }),
            time_nano: Some(5_000_000),
            ..EventMessage::default()
        }
    }

    #[test]
    fn events_are_read_with_their_containers_id() {
        let read = |action: &str, attributes: &[(&str, &str)]| {
            Happened::read(message(action, attributes)).map(|happened| (happened.container_id, happened.action))
        };
        assert_eq!(read("die", &[("exitCode", "3")]), Some(("c".into(), Action::Die { code: Some(3) })));
        assert_eq!(read("kill", &[("signal", "15")]), Some(("c".into(), Action::Kill { signal: 15 })));
        assert_eq!(read("kill", &[]), None);
        assert_eq!(read("rename", &[]), None);
        let words = Action::WORDS.iter().filter(|word| read(word, &[("signal", "9")]).is_some());
        assert_eq!(words.count(), Action::WORDS.len(), "each that is asked for is understood");
    }

    #[test]
    fn an_exit_is_explained_by_what_happened_before_it_to_the_same_container() {
        let mut history = History::default();
        history.note("a".into(), &Action::Kill { signal: 15 }, 1_000);
        history.note("b".into(), &Action::Kill { signal: 1 }, 1_000);
        history.note("c".into(), &Action::OutOfMemory, 1_000);
        let mut seen = |id: &str, at_ms| {
            let exit = history.exit(id, Some(1), at_ms);
            (exit.signal, exit.is_oom)
        };
        assert_eq!(seen("a", 2_000), (Some(15), false));
        assert_eq!(seen("a", 3_000), (None, false), "that was another run");
        assert_eq!(seen("b", 2_000), (None, false), "SIGHUP is a message");
        assert_eq!(seen("c", 2_000), (None, true));
        history.note("a".into(), &Action::Kill { signal: 15 }, 1_000);
        assert_eq!(history.exit("a", Some(0), 1_001 + SIGNAL_COUNTS_MS).signal, None, "that was too long ago");
    }
}
