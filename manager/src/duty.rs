//! The duties of a manager: background work that must never end while the process lives, or while the manager leads. A
//! manager without one of them is worse than none, since it may lead: the process ends, and another manager leads.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Starts and stops the leader's duties.
    Leadership,
    /// The leader's: makes Raft's membership what the managers' rows say.
    Members,
    /// The leader's: places and restarts tasks.
    Planner,
    /// The leader's: takes the next step of a rotation of the certificate authority.
    Rotation,
    /// The leader's: grants leases and notices silence.
    Leases,
    /// The leader's: proposes what the leases' account has decided.
    NodeStates,
    /// The leader's: asks others whether they reach a silent worker.
    Opinions,
    /// The leader's: marks the sessions whose tasks have changed.
    Router,
    /// Renews this manager's certificate.
    Certificate,
    /// Saves the state at intervals.
    Backups,
    /// Makes events of what is applied.
    Events,
    /// Makes events of changes of leader.
    LeaderEvents,
    /// Tells systemd that the manager lives.
    Notify,
    /// Serves metrics and health pages.
    Http,
    /// Stands for election when the leader is silent.
    Elections,
    /// The leader's: sends heartbeats to the other managers.
    Heartbeats,
}

impl Duty {
    pub const ALL: [Self; 16] = [
        Self::Leadership,
        Self::Members,
        Self::Planner,
        Self::Rotation,
        Self::Leases,
        Self::NodeStates,
        Self::Opinions,
        Self::Router,
        Self::Certificate,
        Self::Backups,
        Self::Events,
        Self::LeaderEvents,
        Self::Notify,
        Self::Http,
        Self::Elections,
        Self::Heartbeats,
    ];

    /// Its name in logs and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leadership => "leadership",
            Self::Members => "members",
            Self::Planner => "planner",
            Self::Rotation => "rotation",
            Self::Leases => "leases",
            Self::NodeStates => "node states",
            Self::Opinions => "second opinions",
            Self::Router => "router",
            Self::Certificate => "certificate",
            Self::Backups => "backups",
            Self::Events => "events",
            Self::LeaderEvents => "leader events",
            Self::Notify => "notify",
            Self::Http => "http",
            Self::Elections => "elections",
            Self::Heartbeats => "heartbeats",
        }
    }
}
