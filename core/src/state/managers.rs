//! Applying what is said of managers: they join, are promoted and demoted, are removed.

use super::State;
use super::apply::{Apply, Done};
use super::command::{Answer, Refusal};
use super::rows::manager_key;
use crate::codec::{self, Versioned};
use crate::model::validate::validate_name;
use crate::model::{Manager, Standing};

/// More managers make a group slower and not safer.
pub const MAX_MANAGERS: usize = 32;
/// Of those that were removed so many are remembered, the latest.
const REMOVED_REMEMBERED: usize = 1_000;
/// Managers that the lost ones may have let join, unseen by the one that is left.
pub(super) const NUMBERS_SKIPPED: u64 = 100;
const MAX_ADDRESS_BYTES: usize = 300;

impl Versioned for Manager {}

impl State {
    /// All managers by their number, those included that were removed.
    pub fn managers(&self) -> impl Iterator<Item = &Manager> {
        self.managers.values()
    }

    /// None: there never was one, or so long ago that it is forgotten.
    pub fn manager(&self, id: u64) -> Option<&Manager> {
        self.managers.get(&id)
    }

    /// Numbers of managers below this one were given out by managers that may be lost; 0 if there are none.
    pub const fn next_manager(&self) -> u64 {
        self.meta.next_manager
    }

    /// Whether it was a manager once, or may have been one unseen.
    pub fn is_removed_manager(&self, id: u64) -> bool {
        // A number that was never given here was given by managers that are lost.
        let is_unknown = || id < self.meta.next_manager;
        self.managers.get(&id).map_or_else(is_unknown, |manager| !manager.is_member())
    }
}

impl Apply<'_> {
    pub(super) fn add_manager(&mut self, name: &str, address: &str) -> Done {
        validate_name(name).map_err(|invalid| Refusal::Invalid { field: "name".into(), problem: invalid.problem })?;
        check_address(address)?;
        let mut count = 0;
        for member in self.state.managers.values().filter(|manager| manager.is_member()) {
            if member.name == name {
                return Err(Refusal::ManagerNameTaken { name: name.to_owned(), id: member.id });
            }
            if member.address == address {
                return Err(Refusal::ManagerAddressTaken { address: address.to_owned(), name: member.name.clone() });
            }
            count += 1;
        }
        if count >= MAX_MANAGERS {
            return Err(Refusal::Impossible {
                what: format!("there are {count} managers already, the most that a cluster may have; remove one first"),
            });
        }
        let id = self.state.managers.last_key_value().map_or(Some(1), |(last, _)| last.checked_add(1));
        let id = id.ok_or_else(|| Refusal::Impossible { what: "the numbers of managers have run out".into() })?;
        let id = id.max(self.state.meta.next_manager);
        self.put_manager(Manager {
            id,
            name: name.to_owned(),
            address: address.to_owned(),
            standing: Standing::Voter,
            joined_at_ms: self.now_ms,
            version: 0,
        })
    }

    pub(super) fn set_manager(&mut self, id: u64, standing: Standing) -> Done {
        let manager = self.state.managers.get(&id).ok_or(Refusal::NoSuchManager { id })?;
        if manager.standing == Standing::Removed {
            if standing == Standing::Removed {
                return Ok(Answer::Manager { id, version: manager.version });
            }
            return Err(Refusal::ManagerRemoved { name: manager.name.clone() });
        }
        let is_voter = |other: &&Manager| other.standing == Standing::Voter;
        let others = self.state.managers.values().filter(|other| other.id != id).filter(is_voter).count();
        if standing != Standing::Voter && others == 0 {
            return Err(Refusal::LastManager { name: manager.name.clone() });
        }
        let manager = Manager { standing, ..manager.clone() };
        let done = self.put_manager(manager);
        self.forget_removed();
        done
    }

    pub(super) fn set_manager_address(&mut self, id: u64, address: &str) -> Done {
        check_address(address)?;
        let manager = self.state.managers.get(&id).ok_or(Refusal::NoSuchManager { id })?;
        if !manager.is_member() {
            return Err(Refusal::ManagerRemoved { name: manager.name.clone() });
        }
        let mut others = self.state.managers.values().filter(|other| other.is_member() && other.id != id);
        if let Some(holder) = others.find(|other| other.address == address) {
            return Err(Refusal::ManagerAddressTaken { address: address.to_owned(), name: holder.name.clone() });
        }
        let manager = Manager { address: address.to_owned(), ..manager.clone() };
        self.put_manager(manager)
    }

    /// The one manager that is left goes on alone. What the lost ones may have given out since (indexes, numbers of
    /// managers) is skipped, and they are removed: nothing that they say counts if they come back.
    pub(super) fn recover(&mut self, survivor: u64, address: Option<&str>, leap: u64) -> Done {
        let own = self.state.managers.get(&survivor).ok_or(Refusal::NoSuchManager { id: survivor })?.clone();
        if !own.is_member() {
            return Err(Refusal::ManagerRemoved { name: own.name });
        }
        if let Some(address) = address {
            check_address(address)?;
        }
        self.leap(leap, self.state.first_free_manager());
        self.remove_managers_but(survivor)?;
        let address = address.map_or(own.address.clone(), str::to_owned);
        let done = self.put_manager(Manager { standing: Standing::Voter, address, ..own });
        self.forget_removed();
        done
    }

    /// What is given out from here on is above all that lost managers can have given out unseen.
    pub(super) fn leap(&mut self, leap: u64, next_manager: u64) {
        let meta = &mut self.state.meta;
        meta.index_base = meta.index_base.saturating_add(leap);
        meta.next_manager = meta.next_manager.max(next_manager);
        self.at.index = self.at.index.saturating_add(leap);
        self.rows.push(State::meta_row(&self.state.meta));
    }

    pub(super) fn remove_managers_but(&mut self, survivor: u64) -> Result<(), Refusal> {
        let members = self.state.managers.values().filter(|other| other.is_member() && other.id != survivor);
        for lost in members.cloned().collect::<Vec<_>>() {
            self.put_manager(Manager { standing: Standing::Removed, ..lost })?;
        }
        Ok(())
    }

    /// Never the one with the highest number: the next number follows it.
    fn forget_removed(&mut self) {
        let managers = &self.state.managers;
        let highest = managers.last_key_value().map(|(id, _)| *id);
        let removed: Vec<u64> =
            managers.values().filter(|manager| !manager.is_member()).map(|manager| manager.id).collect();
        let surplus = removed.len().saturating_sub(REMOVED_REMEMBERED);
        for id in removed.into_iter().take(surplus).filter(|id| Some(*id) != highest) {
            self.state.managers.remove(&id);
            self.delete(manager_key(id));
        }
    }

    pub(super) fn put_manager(&mut self, mut manager: Manager) -> Done {
        let (id, version) = (manager.id, self.at.index);
        manager.version = version;
        self.write(manager_key(id), codec::encode(&manager));
        self.state.managers.insert(id, manager);
        self.changes.managers.push(id);
        Ok(Answer::Manager { id, version })
    }
}

pub(super) fn check_address(address: &str) -> Result<(), Refusal> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let is_fine = address.len() <= MAX_ADDRESS_BYTES
        && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && matches!(port, Some(Ok(1..)));
    if is_fine {
        return Ok(());
    }
    let shown: String = address.chars().take(MAX_ADDRESS_BYTES).collect();
    let problem = format!("{shown:?} is not an address: HOST:PORT is expected, as in 10.0.0.1:7700");
    Err(Refusal::Invalid { field: "address".into(), problem })
}
