//! Whether a history is linearizable: an order of all operations that respects real time, in which every answer is what a
//! plain sequential model gives. The search of Wing and Gong with Lowe's memory of what was tried. It knows no log, no
//! index and no code of ours, so that it can contradict them.
//!
//! Sources: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for linearizability" (2017).

pub mod service;

use std::collections::HashSet;

/// A sequential object. A step may have several outcomes, where it does things of its own accord in between.
pub trait Model {
    type State: Clone + Eq + std::hash::Hash;
    type Call;
    fn initial(&self) -> Self::State;
    /// The states after a call with its answer; none where it cannot have been answered so.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Vec<Self::State>;
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation<C> {
    pub invoked: u64,
    /// None: it may take effect at any time from its invocation on, or never.
    pub returned: Option<u64>,
    /// With its answer.
    pub call: C,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    Violated,
    /// The search was given up.
    Undecided,
}

/// Searches for an order, `budget` steps at the most.
pub fn check<M: Model>(model: &M, operations: &[Operation<M::Call>], budget: usize) -> Verdict {
    let mut search = Search { model, operations, seen: HashSet::new(), budget };
    let done = Bits::none(operations.len());
    match search.explore(done, model.initial()) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Violated,
        None => Verdict::Undecided,
    }
}

/// Which operations have taken effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & 1 << (at % 64) != 0
    }

    fn with(&self, at: usize) -> Self {
        let mut more = self.clone();
        more.0[at / 64] |= 1 << (at % 64);
        more
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Call>],
    seen: HashSet<(Bits, M::State)>,
    budget: usize,
}

impl<M: Model> Search<'_, M> {
    /// Depth first, on a stack of its own: histories are longer than a thread's stack.
    fn explore(&mut self, done: Bits, state: M::State) -> Option<bool> {
        let mut stack = vec![(done, state)];
        while let Some((done, state)) = stack.pop() {
            let left = |at: &usize| !done.has(*at);
            // What returned first of what is left: everything invoked after that comes later.
            let open = (0..self.operations.len()).filter(left);
            let Some(horizon) = open.clone().filter_map(|at| self.operations[at].returned).min() else {
                return Some(true);
            };
            let mut ready: Vec<usize> = open.filter(|at| self.operations[*at].invoked <= horizon).collect();
            // The last is tried first: what returned first, and what is not known last.
            ready.sort_by_key(|at| std::cmp::Reverse(self.operations[*at].returned.unwrap_or(u64::MAX)));
            for at in ready {
                for next in self.model.step(&state, &self.operations[at].call) {
                    let done = done.with(at);
                    if self.seen.contains(&(done.clone(), next.clone())) {
                        continue;
                    }
                    self.budget = self.budget.checked_sub(1)?;
                    self.seen.insert((done.clone(), next.clone()));
                    stack.push((done, next));
                }
            }
        }
        Some(false)
    }
}
