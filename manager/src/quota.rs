//! Counts what callers hold at the same time, in total and each. What is beyond is refused at once, and nobody waits.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// How much may be held. Clones share the count.
#[derive(Debug, Clone)]
pub struct Quota {
    total: usize,
    each: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    by_caller: HashMap<String, usize>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    Total(usize),
    Each(usize),
}

/// One thing that is held; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    caller: String,
    held: Arc<Mutex<Held>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        held.count -= 1;
        if let Some(count) = held.by_caller.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                held.by_caller.remove(&self.caller);
            }
        }
    }
}

impl Quota {
    pub fn new(total: usize, each: usize) -> Self {
        Self { total, each, held: Arc::default() }
    }

    /// One more for that caller.
    pub fn take(&self, caller: &str) -> Result<Permit, Exceeded> {
        let mut held = self.held.lock();
        if held.by_caller.get(caller).is_some_and(|count| *count >= self.each) {
            return Err(Exceeded::Each(self.each));
        }
        if held.count >= self.total {
            return Err(Exceeded::Total(self.total));
        }
        held.count += 1;
        *held.by_caller.entry(caller.to_owned()).or_default() += 1;
        Ok(Permit { caller: caller.to_owned(), held: self.held.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_room_for_the_others_until_all_is_held() {
        let quota = Quota::new(3, 2);
        let first = [quota.take("a"), quota.take("a")];
        assert!(first.iter().all(Result::is_ok));
        assert_eq!(quota.take("a").err(), Some(Exceeded::Each(2)));
        let other = quota.take("b");
        assert_eq!(quota.take("c").err(), Some(Exceeded::Total(3)));
        drop(other);
        quota.take("c").expect("what is dropped is given back");
        drop(first);
        assert!(quota.held.lock().by_caller.is_empty() && quota.held.lock().count == 0);
    }
}
