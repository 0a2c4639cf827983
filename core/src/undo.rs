//! What has to change so that services are again as a saved state has them. Pure: the caller shows it, and proposes it as
//! one command, which carries what was seen.

use std::collections::BTreeMap;
use std::fmt;

use crate::codec;
use crate::model::{ServiceId, ServiceSpec};
use crate::state::State;
use crate::state::command::{Action, Command, ServiceChange};

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    pub id: ServiceId,
    pub spec: ServiceSpec,
    /// Its tasks are being stopped.
    pub removed: bool,
    pub version: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// What is not in the file is to go.
    pub exact: bool,
    /// Names; empty for all.
    pub only: Vec<String>,
}

/// What becomes of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was removed since.
    ComesBack,
    /// It is being removed: that ends.
    Stays,
    /// The fields that differ.
    ChangedBack(Vec<&'static str>),
    /// It is not in the file.
    Removed,
    /// It is as in the file.
    Same,
    /// It is not in the file, and nothing was said of such.
    NotInFile,
}

impl Fate {
    /// The word used in output and JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ComesBack => "comes-back",
            Self::Stays => "stays",
            Self::ChangedBack(_) => "changed-back",
            Self::Removed => "removed",
            Self::Same => "same",
            Self::NotInFile => "not-in-file",
        }
    }
}

/// A service and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub name: String,
    pub fate: Fate,
    /// None where nothing is to be done.
    pub change: Option<ServiceChange>,
}

/// All decisions, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    pub decisions: Vec<Decision>,
}

/// Names that were asked for and are neither in the file nor there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no service {}, neither in the file nor in the cluster", .0.join(", "))]
pub struct Unknown(pub Vec<String>);

/// A service is the same if it has the same id, else if it has the same name: one that was made anew since is changed back.
///
/// # Errors
/// [`Unknown`]
pub fn plan(saved: &State, present: &[Present], wish: &Wish) -> Result<Undo, Unknown> {
    let is_meant = |name: &str| wish.only.is_empty() || wish.only.iter().any(|only| only == name);
    let mut decisions: BTreeMap<String, Decision> = BTreeMap::new();
    for service in saved.services().filter(|service| !service.removed && is_meant(&service.spec.name)) {
        let of_id = present.iter().find(|now| now.id == service.id && now.spec.name == service.spec.name);
        let now = of_id.or_else(|| present.iter().find(|now| now.spec.name == service.spec.name));
        let decision = decide(service.id, &service.spec, now);
        decisions.insert(decision.name.clone(), decision);
    }
    for now in present.iter().filter(|now| is_meant(&now.spec.name)) {
        decisions.entry(now.spec.name.clone()).or_insert_with(|| {
            let goes = wish.exact && !now.removed;
            let change = goes.then_some(ServiceChange { id: now.id, seen_version: now.version, spec: None });
            let fate = if goes { Fate::Removed } else { Fate::NotInFile };
            Decision { name: now.spec.name.clone(), fate, change }
        });
    }
    let unknown: Vec<String> = wish.only.iter().filter(|name| !decisions.contains_key(*name)).cloned().collect();
    if unknown.is_empty() { Ok(Undo { decisions: decisions.into_values().collect() }) } else { Err(Unknown(unknown)) }
}

fn decide(id: ServiceId, saved: &ServiceSpec, now: Option<&Present>) -> Decision {
    let change = |id, seen_version| Some(ServiceChange { id, seen_version, spec: Some(Box::new(saved.clone())) });
    let (fate, change) = match now {
        None => (Fate::ComesBack, change(id, 0)),
        Some(now) if now.removed => (Fate::Stays, change(now.id, now.version)),
        Some(now) if now.spec == *saved => (Fate::Same, None),
        Some(now) => (Fate::ChangedBack(differences(&now.spec, saved)), change(now.id, now.version)),
    };
    Decision { name: saved.name.clone(), fate, change }
}

fn differences(now: &ServiceSpec, saved: &ServiceSpec) -> Vec<&'static str> {
    let pairs = [
        ("driver", now.driver == saved.driver),
        ("image", now.image == saved.image),
        ("command", now.command == saved.command),
        ("args", now.args == saved.args),
        ("env", now.env == saved.env),
        ("labels", now.labels == saved.labels),
        ("replicas", now.mode == saved.mode),
        ("reservations", now.reservations == saved.reservations),
        ("limits", now.limits == saved.limits),
        ("ports", now.ports == saved.ports),
        ("mounts", now.mounts == saved.mounts),
        ("restart", now.restart == saved.restart),
        ("placement", now.placement == saved.placement),
        ("on-disconnect", now.on_disconnect == saved.on_disconnect),
        ("health", now.health == saved.health),
        ("stop-grace", now.stop_grace_ms == saved.stop_grace_ms),
    ];
    pairs.into_iter().filter(|(_, is_same)| !is_same).map(|(field, _)| field).collect()
}

/// How large the command is that makes them.
pub fn command_bytes(changes: &[ServiceChange]) -> usize {
    let action = Action::RestoreServices { changes: changes.to_vec() };
    codec::encode(&Command { now_ms: u64::MAX, request: None, action }).len()
}

impl Undo {
    /// What is to be proposed.
    pub fn changes(&self) -> Vec<ServiceChange> {
        self.decisions.iter().filter_map(|decision| decision.change.clone()).collect()
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.fate {
            Fate::ComesBack => write!(f, "{name} comes back: it was removed"),
            Fate::Stays => write!(f, "{name} stays: it is being removed"),
            Fate::ChangedBack(fields) => write!(f, "{name} is changed back: {}", fields.join(", ")),
            Fate::Removed => write!(f, "{name} is removed: it is not in the file"),
            Fate::Same => write!(f, "{name} is untouched: it is as in the file"),
            Fate::NotInFile => write!(f, "{name} is untouched: it is not in the file"),
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, decision) in self.decisions.iter().enumerate() {
            write!(f, "{}{decision}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}
