//! Whose data directory it is, and whom its manager knows before Raft runs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use goat_core::model::{ClusterId, Manager};
use goat_core::state::State;
use goat_raft_store::Identity;

use super::Error;
use crate::config::Config;
use crate::machine::View;

/// Whose data directory it is: the manager's number, and its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seated {
    pub id: u64,
    pub cluster: ClusterId,
}

impl Seated {
    /// As `init` or `join` left it; None where neither did.
    pub fn of(dir: &Path) -> Result<Option<Self>, Error> {
        let Some(Identity { node_id, cluster_id }) = goat_raft_store::identity(dir)? else { return Ok(None) };
        let cluster = cluster_id.and_then(|id| id.parse().ok());
        let cluster = cluster.ok_or_else(|| Error::Empty(dir.display().to_string()))?;
        Ok(Some(Self { id: node_id, cluster }))
    }

    /// Marks an empty directory.
    pub fn claim(self, dir: &Path) -> Result<(), Error> {
        goat_raft_store::claim(dir, &self.identity())?;
        // The authority's private key is in the state.
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir, private).map_err(|error| Error::Private(dir.display().to_string(), error))
    }

    pub(crate) fn identity(self) -> Identity {
        Identity { cluster_id: Some(self.cluster.to_string()), node_id: self.id }
    }
}

/// Whom this manager knows before Raft runs.
#[derive(Debug)]
pub struct Roster {
    pub(super) id: u64,
    pub(super) cluster: String,
    pub(super) dir: String,
    /// Addresses of the other managers.
    pub(super) others: Vec<String>,
}

impl Roster {
    /// As the rows on disk have it.
    pub(super) fn new(config: &Config, seated: Seated, view: &View) -> Self {
        let is_other = |manager: &&Manager| manager.is_member() && manager.id != seated.id;
        let addresses = |state: &State| state.managers().filter(is_other).map(|other| other.address.clone()).collect();
        let others = addresses(&view.read());
        Self { id: seated.id, cluster: seated.cluster.to_string(), dir: config.data_dir.display().to_string(), others }
    }
}
