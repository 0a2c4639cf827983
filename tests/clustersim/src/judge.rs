//! What has to be there once everything is mended: every acknowledged change, and what was asked for, running.

use std::collections::BTreeMap;

use goat_core::check::check_state;
use goat_core::model::{ServiceId, Standing};
use goat_core::state::State;

use crate::world::World;

/// The state as a manager has applied it.
///
/// # Errors
/// Rows that make no state.
pub fn state_of(world: &World, manager: usize) -> Result<State, String> {
    State::from_rows(world.disks[manager].rows()).map_err(|error| format!("host {manager}: {error}"))
}

/// Core's checker on every manager's state.
pub fn check_states(world: &World) {
    for manager in 0..world.shape.managers {
        match state_of(world, manager) {
            Ok(state) => check_state(&state).into_iter().for_each(|violation| {
                world.witness.violation(format!("host {manager}'s state: {violation}"));
            }),
            Err(problem) => world.witness.violation(problem),
        }
    }
}

/// What is not yet as it has to be; None where everything is.
pub fn missing(world: &World) -> Option<String> {
    if !world.desk.is_idle() {
        return Some("a request has no answer".into());
    }
    let applied: Vec<u64> = (0..world.shape.managers).map(|host| world.witness.applied(host)).collect();
    if applied.iter().any(|one| Some(one) != applied.iter().max()) {
        return Some(format!("the managers have applied {applied:?}"));
    }
    let state = match state_of(world, 0) {
        Ok(state) => state,
        Err(problem) => return Some(problem),
    };
    let (managers, nodes) = (state.managers().count(), state.nodes().count());
    if managers != world.shape.managers || nodes != world.shape.workers {
        return Some(format!("{managers} managers and {nodes} workers are known"));
    }
    if let Some(other) = state.managers().find(|manager| manager.standing != Standing::Voter) {
        return Some(format!("{} is to be a {}", other.name, other.standing.as_str()));
    }
    missing_of_services(world, &state)
}

fn missing_of_services(world: &World, state: &State) -> Option<String> {
    let mut running: BTreeMap<ServiceId, u32> = BTreeMap::new();
    for (service, _, _) in world.machines.running() {
        *running.entry(service).or_default() += 1;
    }
    let mut wanted = world.desk.wanted();
    for service in state.services() {
        let runs = running.remove(&service.id).unwrap_or(0);
        let name = service.spec.name.as_str();
        match wanted.remove(name) {
            Some(replicas) if !service.removed => {
                let there = service.spec.replicas();
                if there != replicas {
                    return Some(format!("{name} has {there} replicas, and {replicas} were acknowledged"));
                }
                if runs != replicas {
                    return Some(format!("{runs} of {replicas} instances of {name} run"));
                }
            }
            Some(_) => return Some(format!("{name} is being removed, and nobody asked for that")),
            None if runs > 0 => return Some(format!("{runs} instances of {name}, which was removed, run")),
            None if !service.removed => return Some(format!("{name} is there and nobody asked for it")),
            None => {}
        }
    }
    if let Some((name, _)) = wanted.first_key_value() {
        return Some(format!("{name} was acknowledged and is not there"));
    }
    running.first_key_value().map(|(service, runs)| format!("{runs} instances of {service}, which is unknown, run"))
}
