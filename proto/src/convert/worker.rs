//! What workers say: their inventory and their tasks' states.

use goat_core::model::{Driver, ImageInfo, Inventory, TaskState};
use goat_core::state::command::{MAX_REPORT_ERROR_BYTES, TaskReport};

use super::words::Word;
use super::{Error, parse, present, word};
use crate::v1;

impl From<v1::Inventory> for Inventory {
    /// A driver that this build does not know is left out: no spec that this build accepts asks for it, and refusing
    /// the inventory would shut out every newer worker during an upgrade.
    fn from(wire: v1::Inventory) -> Self {
        Self {
            total: wire.total.unwrap_or_default().into(),
            drivers: wire.drivers.iter().filter_map(|text| word::<Driver>("drivers", text).ok()).collect(),
            images: wire
                .images
                .into_iter()
                .map(|image| ImageInfo { reference: image.reference, size_bytes: image.size_bytes })
                .collect(),
            disk_free_bytes: wire.disk_free_bytes,
            agent_version: wire.agent_version,
            conditions: wire.conditions.into_iter().collect(),
            agent_address: wire.agent_address,
            max_tasks: wire.max_tasks,
        }
    }
}

impl From<&Inventory> for v1::Inventory {
    fn from(core: &Inventory) -> Self {
        Self {
            total: Some(core.total.into()),
            drivers: core.drivers.iter().map(|driver| driver.word().into()).collect(),
            images: core
                .images
                .iter()
                .map(|image| v1::ImageInfo { reference: image.reference.clone(), size_bytes: image.size_bytes })
                .collect(),
            disk_free_bytes: core.disk_free_bytes,
            agent_version: core.agent_version.clone(),
            conditions: core.conditions.iter().cloned().collect(),
            agent_address: core.agent_address.clone(),
            max_tasks: core.max_tasks,
        }
    }
}

impl TryFrom<v1::TaskReport> for TaskReport {
    type Error = Error;

    fn try_from(wire: v1::TaskReport) -> Result<Self, Error> {
        Ok(Self {
            task: parse("task_id", &wire.task_id)?,
            state: word::<TaskState>("state", &wire.state)?,
            exit_code: wire.exit_code,
            reason: present(wire.reason),
            error: present(cut(wire.error, MAX_REPORT_ERROR_BYTES)),
            container_id: present(wire.container_id),
            at_ms: wire.at_ms,
        })
    }
}

/// Cuts a text that is longer than `most` bytes. What a runtime says may be long, and is no less true for that.
pub fn cut(mut text: String, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() > most {
        let end = (0..=most - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

impl From<&TaskReport> for v1::TaskReport {
    fn from(core: &TaskReport) -> Self {
        Self {
            task_id: core.task.to_string(),
            state: core.state.word().into(),
            exit_code: core.exit_code,
            reason: core.reason.clone().unwrap_or_default(),
            error: core.error.clone().unwrap_or_default(),
            container_id: core.container_id.clone().unwrap_or_default(),
            at_ms: core.at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{Resources, TaskId};

    use super::*;

    fn inventory() -> Inventory {
        Inventory {
            total: Resources { cpu_millis: 2_000, memory_bytes: 1 << 34, disk_bytes: 1 << 36 },
            drivers: [Driver::Docker, Driver::Process].into(),
            images: vec![ImageInfo { reference: "echo:1".into(), size_bytes: 5 }],
            disk_free_bytes: 64 << 20,
            agent_version: "0.1.0".into(),
            conditions: ["disk-pressure".into()].into(),
            agent_address: "10.0.0.7:7701".into(),
            max_tasks: 250,
        }
    }

    #[test]
    fn an_inventory_survives_the_wire() {
        assert_eq!(Inventory::from(v1::Inventory::from(&inventory())), inventory());
        assert_eq!(Inventory::from(v1::Inventory::default()), Inventory::default());
    }

    #[test]
    fn a_newer_workers_driver_does_not_shut_it_out() {
        let mut wire = v1::Inventory::from(&inventory());
        wire.drivers.push("wasm".into());
        assert_eq!(Inventory::from(wire), inventory());
    }

    #[test]
    fn a_report_survives_the_wire_and_tells_nothing_from_zero() {
        let full = TaskReport {
            task: TaskId::from_random(7),
            state: TaskState::Failed,
            exit_code: Some(0),
            reason: Some("exit".into()),
            error: Some("gone".into()),
            container_id: Some("c".into()),
            at_ms: 9,
        };
        let bare = TaskReport { exit_code: None, reason: None, error: None, container_id: None, ..full.clone() };
        for report in [full, bare] {
            assert_eq!(TaskReport::try_from(v1::TaskReport::from(&report)), Ok(report));
        }
    }

    #[test]
    fn a_long_error_is_cut_and_not_refused() {
        let wire = |error: String| v1::TaskReport {
            task_id: TaskId::from_random(7).to_string(),
            state: "failed".into(),
            error,
            ..Default::default()
        };
        let error = |text: String| TaskReport::try_from(wire(text)).expect("it is sound").error.expect("it has one");
        let longest = "x".repeat(MAX_REPORT_ERROR_BYTES);
        assert_eq!(error(longest.clone()), longest);
        let cut = error("ä".repeat(MAX_REPORT_ERROR_BYTES));
        assert!(cut.len() <= MAX_REPORT_ERROR_BYTES && cut.ends_with("ä..."), "{} bytes", cut.len());
    }

    #[test]
    fn a_report_that_makes_no_sense_is_refused_by_its_field() {
        let wire = v1::TaskReport { task_id: TaskId::from_random(7).to_string(), ..Default::default() };
        let refusal = |wire: v1::TaskReport| TaskReport::try_from(wire).expect_err("it is wrong").field;
        assert_eq!(refusal(wire), "state");
        assert_eq!(refusal(v1::TaskReport { state: "running".into(), ..Default::default() }), "task_id");
    }
}
