//! What must hold of instances in a storm and after it, from Docker's own word and from what was done. Pure.
//!
//! Under faults that overlap not everything can be judged exactly. What cannot is left out by a rule that says so here and in
//! docs/testing.md, never by a number that was tuned until nothing was found.

pub mod attempts;
pub mod lives;

use goat_testcluster::drill::Role;
use goat_testcluster::pulse::Stall;
use goat_testcluster::witness::Life;

use super::causes::Cause;

/// Everything that is known of a round's instances.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub lives: Vec<Life>,
    pub causes: Vec<Cause>,
    /// When this program, through which all links go, stood still.
    pub stalls: Vec<Stall>,
    /// What each service promises.
    pub roles: Vec<(String, Role)>,
    /// When the storm began, and when all was looked at.
    pub began_ms: u64,
    pub now_ms: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub violations: Vec<String>,
    /// What would be wrong, was it not for a reason that is told with it.
    pub excused: Vec<String>,
}

impl Account {
    fn role(&self, service: &str) -> Option<Role> {
        self.roles.iter().find(|(name, _)| name == service).map(|(_, role)| *role)
    }
}
