//! What must hold of a history, each rule in a file of its own. Pure: a history and a log go in, sentences come out.

pub mod keys;
pub mod order;
pub mod replay;

/// Sentences of what is wrong, not without end.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<String>,
    /// Beyond those that are kept.
    pub more: usize,
}

const KEPT: usize = 50;

impl Findings {
    pub fn add(&mut self, text: impl Into<String>) {
        if self.violations.len() < KEPT {
            self.violations.push(text.into());
        } else {
            self.more += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }
}
