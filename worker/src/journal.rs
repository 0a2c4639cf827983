//! What became of each task, on disk until managers let go of it: the reason why an agent that was restarted never runs
//! an ended task again, even if its container is gone.
//!
//! One file per task, `tasks/ID.json`. A task is written when it runs and when it has ended; before that, its container
//! or process is the record. One that was let go of is `tasks/ID.gone` for some minutes yet: should it be assigned once
//! more, by a leader that heard late, it is not begun once more.

use std::path::{Path, PathBuf};

use goat_core::model::TaskId;

use crate::durable;
use crate::task::Record;

pub use crate::durable::Error;

/// Of files, the extensions.
const RECORD: &str = "json";
const GONE: &str = "gone";

/// The journal's directory. Clones share it; one task is written by one owner at a time.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
    /// Files are written where that is asked for, and nothing else runs meanwhile.
    is_inline: bool,
}

impl Journal {
    /// `root`: the data directory.
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("tasks"), is_inline: false }
    }

    /// The same for an agent that must not have a second thread.
    pub fn inline(root: &Path) -> Self {
        Self { is_inline: true, ..Self::new(root) }
    }

    fn path(&self, task: TaskId, extension: &str) -> PathBuf {
        self.dir.join(format!("{task}.{extension}"))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, Error> {
        durable::make_dir(&self.dir)?;
        let failed = |source| Error::Io { path: self.dir.clone(), source };
        let paths = std::fs::read_dir(&self.dir).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path()));
        let is_one = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        paths.filter(|path| path.as_ref().map_or(true, is_one)).collect()
    }

    /// Everything that was written. Blocks.
    pub fn load(&self) -> Result<Vec<Record>, Error> {
        let records = self.files(RECORD)?.into_iter().map(|path| durable::read::<Record>(&path));
        records.filter_map(Result::transpose).collect()
    }

    /// What was forgotten by [`Self::forget`] and not yet let go of. Blocks.
    pub fn forgotten(&self) -> Result<Vec<TaskId>, Error> {
        let paths = self.files(GONE)?;
        Ok(paths.iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
    }

    /// On return it is on disk.
    pub async fn save(&self, record: &Record) -> Result<(), Error> {
        let (path, record) = (self.path(record.meta.task, RECORD), record.clone());
        self.blocking(move || durable::write(&path, &record)).await
    }

    /// On return it is gone, and it is on disk that it was there.
    pub async fn forget(&self, task: TaskId) -> Result<(), Error> {
        let (path, gone) = (self.path(task, RECORD), self.path(task, GONE));
        self.blocking(move || durable::rename(&path, &gone)).await
    }

    /// Nothing is left of them.
    pub async fn let_go(&self, tasks: impl IntoIterator<Item = TaskId>) -> Result<(), Error> {
        let paths: Vec<PathBuf> = tasks.into_iter().map(|task| self.path(task, GONE)).collect();
        self.blocking(move || durable::remove_all(&paths)).await
    }

    async fn blocking(&self, work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
        if self.is_inline {
            return work();
        }
        tokio::task::spawn_blocking(work).await.expect("file operations do not panic, and are not aborted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::meta;

    #[tokio::test]
    async fn records_are_found_again_until_they_are_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::new(dir.path());
        assert_eq!(journal.load().expect("an empty one is fine"), []);
        let mut record = Record::new(meta(3), 1);
        record.failed("exit", "gone", 2);
        journal.save(&record).await.expect("saved");
        assert_eq!(journal.load().expect("loaded"), [record.clone()]);
        journal.forget(record.meta.task).await.expect("forgotten");
        journal.forget(record.meta.task).await.expect("twice is fine");
        assert_eq!(journal.load().expect("loaded"), []);
        assert_eq!(journal.forgotten().expect("listed"), [record.meta.task]);
        journal.let_go([record.meta.task, meta(4).task]).await.expect("one that was never there is fine");
        assert_eq!(journal.forgotten().expect("listed"), []);
    }
}
