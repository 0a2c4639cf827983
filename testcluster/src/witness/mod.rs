//! The independent witness: when each instance of each slot was alive, from the runtimes themselves.
//!
//! ```text
//! Docker   every daemon's start and die events, and `inspect` at the beginning, at the end and after each gap ─┐
//! process  what supervisors write down, and /proc, sampled                                                     ├► lives
//! managers are never asked                                                                                    ─┘
//! ```
//! It errs to the safe side: an end that it did not see is dated when it saw that it had been.

mod containers;
mod life;
mod processes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::runtime::RuntimeKind;
use crate::taskset::TaskSet;

pub use life::{Life, Overlap, ended_ms, most_at_once, overlaps, refilled_ms};

const STOP_GRACE: Duration = Duration::from_secs(2);

/// Unix time, on the clock that runtimes use too.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Every life so far, by the runtime's name of the instance.
#[derive(Debug, Default, Clone)]
struct Book {
    lives: BTreeMap<String, Life>,
}

impl Book {
    /// What is known of an instance by now; of two ends the earlier one counts, since neither is dated too early.
    fn note(&mut self, instance: &str, life: Life) -> bool {
        match self.lives.get_mut(instance) {
            None => {
                self.lives.insert(instance.to_owned(), life);
                true
            }
            Some(known) => {
                let until_ms = known.until_ms.into_iter().chain(life.until_ms).min();
                let from_ms = known.from_ms.min(life.from_ms);
                let is_news = (from_ms, until_ms) != (known.from_ms, known.until_ms);
                (known.from_ms, known.until_ms) = (from_ms, until_ms);
                is_news
            }
        }
    }

    fn end(&mut self, instance: &str, at_ms: u64) -> bool {
        let alive = self.lives.get_mut(instance).filter(|life| life.is_alive());
        alive.is_some_and(|life| {
            life.until_ms = Some(at_ms.max(life.from_ms));
            true
        })
    }
}

/// What watchers of runtimes write to and everybody reads. Clones share it.
#[derive(Debug, Clone)]
struct Notes {
    book: Arc<watch::Sender<Book>>,
    since_ms: u64,
}

impl Notes {
    fn since_ms(&self) -> u64 {
        self.since_ms
    }

    fn note(&self, instance: &str, life: Life) {
        // What had ended before is not this witness's business.
        if life.until_ms.is_none_or(|until| until > self.since_ms) {
            self.book.send_if_modified(|book| book.note(instance, life));
        }
    }

    fn end(&self, instance: &str, at_ms: u64) {
        self.book.send_if_modified(|book| book.end(instance, at_ms));
    }

    /// It has ended, and at that moment: what was known of its end may be too late.
    fn date_end(&self, instance: &str, at_ms: u64) {
        self.book.send_if_modified(|book| {
            let late = book.lives.get(instance).filter(|life| life.until_ms.is_none_or(|until| until > at_ms)).cloned();
            late.is_some_and(|life| book.note(instance, Life { until_ms: Some(at_ms.max(life.from_ms)), ..life }))
        });
    }

    /// Instances on the node that have not ended.
    fn alive_on(&self, node: &str) -> Vec<String> {
        let book = self.book.borrow();
        let alive = book.lives.iter().filter(|(_, life)| life.is_alive() && life.node == node);
        alive.map(|(instance, _)| instance.clone()).collect()
    }
}

/// Watches a cluster's runtimes until it is stopped.
#[derive(Debug)]
pub struct Witness {
    notes: Notes,
    layout: Layout,
    containers: containers::Processes,
    tasks: TaskSet,
}

impl Witness {
    /// From here on nothing is missed: what runs already is known when this returns.
    pub async fn start(layout: &Layout) -> Result<Self, Error> {
        let notes = Notes { book: Arc::default(), since_ms: now_ms() };
        let (containers, tasks) = (containers::Processes::default(), TaskSet::new("witness"));
        let witness = Self { notes, layout: layout.clone(), containers, tasks };
        witness.look().await?;
        match layout.runtime {
            RuntimeKind::Docker => containers::watch(layout, &witness.notes, &witness.containers, &witness.tasks)?,
            RuntimeKind::Process => processes::watch(layout, &witness.notes, &witness.tasks),
        }
        Ok(witness)
    }

    /// Looks at everything at once, besides the events.
    async fn look(&self) -> Result<(), Error> {
        match self.layout.runtime {
            RuntimeKind::Docker => containers::look(&self.layout, &self.notes, &self.containers).await,
            RuntimeKind::Process => {
                processes::look(&self.layout, &self.notes, &mut processes::Known::default());
                Ok(())
            }
        }
    }

    /// All lives so far.
    pub fn lives(&self) -> Vec<Life> {
        self.notes.book.borrow().lives.values().cloned().collect()
    }

    /// Waits until what is asked of the lives has an answer. None: not within that time.
    pub async fn until<T>(&self, within: Duration, ask: impl Fn(&[Life]) -> Option<T>) -> Option<T> {
        let mut changes = self.notes.book.subscribe();
        let answered = async {
            loop {
                let lives: Vec<_> = changes.borrow_and_update().lives.values().cloned().collect();
                if let Some(answer) = ask(&lives) {
                    return Some(answer);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, answered).await.ok().flatten()
    }

    /// Looks once more, ends, and tells all lives.
    pub async fn finish(self) -> Result<Vec<Life>, Error> {
        let looked = self.look().await;
        self.stop().await;
        looked.map(|()| self.lives())
    }

    /// Ends without a last look.
    pub async fn stop(&self) {
        self.tasks.stop(STOP_GRACE).await;
    }
}

fn workers(layout: &Layout) -> impl Iterator<Item = Member> + use<> {
    layout.members().filter(|member| matches!(member, Member::Worker(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_of_an_instance_twice_is_one_life() {
        let mut book = Book::default();
        let life = |from_ms, until_ms| Life {
            service: "web".into(),
            slot: 1,
            node: "w1".into(),
            task: "t".into(),
            from_ms,
            until_ms,
        };
        assert!(book.note("c", life(10, None)));
        assert!(!book.note("c", life(10, None)), "no news");
        assert!(book.note("c", life(8, None)));
        assert!(book.end("c", 30));
        assert!(!book.end("c", 40));
        assert!(book.note("c", life(9, Some(25))));
        assert_eq!(book.lives["c"], life(8, Some(25)));
        assert!(!book.end("unknown", 1));
    }
}
