//! What concerns the cluster as a whole: its id, the format of its bytes, and an announced outage of the managers, for
//! whose length leases last, so that it stops nothing.

use super::apply::{Apply, Done};
use super::command::{Answer, Refusal};
use super::{Freeze, State};
use crate::model::ClusterId;

const MAX_FREEZE_MS: u64 = 24 * 3_600_000;

impl Apply<'_> {
    pub(super) fn init_cluster(&mut self, id: ClusterId) -> Done {
        if let Some(id) = self.state.meta.cluster {
            return Err(Refusal::ClusterExists { id });
        }
        self.state.meta.cluster = Some(id);
        self.rows.push(State::meta_row(&self.state.meta));
        Ok(Answer::Cluster { id })
    }

    pub(super) fn set_format(&mut self, format: u8) -> Done {
        let found = self.state.format();
        if format <= found {
            return Err(Refusal::Impossible { what: format!("the cluster uses format {found} already") });
        }
        self.state.meta.format = Some(format);
        self.rows.push(State::meta_row(&self.state.meta));
        Ok(Answer::Nothing)
    }

    pub(super) fn freeze(&mut self, for_ms: u64) -> Done {
        if for_ms == 0 || for_ms > MAX_FREEZE_MS {
            let problem = format!("{for_ms} ms is not between 1 ms and one day");
            return Err(Refusal::Invalid { field: "for".into(), problem });
        }
        // A longer one may have been granted already: it is waited for in any case.
        let granted_ms = self.state.meta.freeze.map_or(0, |freeze| freeze.for_ms);
        let for_ms = for_ms.max(granted_ms);
        self.set_freeze(Some(Freeze { for_ms, began_at_ms: self.now_ms, version: self.at.index, stopped: false }))
    }

    pub(super) fn stop_freeze(&mut self) -> Done {
        match self.state.meta.freeze {
            Some(freeze) => self.set_freeze(Some(Freeze { stopped: true, ..freeze })),
            None => Err(Refusal::Impossible { what: "the cluster is not frozen".into() }),
        }
    }

    pub(super) fn end_freeze(&mut self, seen: u64) -> Done {
        match self.state.meta.freeze {
            Some(freeze) if freeze.version == seen => self.set_freeze(None),
            Some(freeze) => Err(Refusal::Stale { seen, found: freeze.version }),
            None => Err(Refusal::Impossible { what: "the cluster is not frozen".into() }),
        }
    }

    fn set_freeze(&mut self, freeze: Option<Freeze>) -> Done {
        self.state.meta.freeze = freeze;
        self.rows.push(State::meta_row(&self.state.meta));
        Ok(Answer::Nothing)
    }
}
