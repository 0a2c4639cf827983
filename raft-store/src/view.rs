//! The applied rows as of one moment. Applying goes on meanwhile.

use crate::db::{self, Db};
use crate::engine::{Family, Read};
use crate::error::Error;
use crate::offline::Row;
use crate::record;
use crate::types::{EntryId, LogId};

/// All rows at one moment, and up to where they go. It may be walked over several times.
pub struct RowsView<'a> {
    db: &'a Db,
    view: &'a dyn Read,
}

impl std::fmt::Debug for RowsView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowsView").field("db", self.db).finish_non_exhaustive()
    }
}

impl<'a> RowsView<'a> {
    pub(crate) fn new(db: &'a Db, view: &'a dyn Read) -> Self {
        Self { db, view }
    }

    /// The last entry whose rows are in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn applied(&self) -> Result<Option<EntryId>, Error> {
        let applied = self.view.get(Family::Meta, db::APPLIED.as_bytes())?;
        let id = applied.map(|bytes| record::decode::<LogId>(db::APPLIED, self.db.path(), &bytes)).transpose()?;
        Ok(id.as_ref().map(EntryId::of))
    }

    /// Every row, in key order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, Error>> + '_ {
        self.view.scan(Family::Rows, &[], None)
    }
}
