//! A task's container, under whatever name: people may have renamed it. By its name first, which costs one call; only where
//! nothing has that, by its labels.

use super::super::{Error, Found};
use super::error::Fault;
use super::{DockerRuntime, container, labels};
use crate::task::TaskMeta;

impl DockerRuntime {
    /// The task's container, under whatever name: people may have renamed it, and it has to be ended all the same.
    pub(super) async fn find(&self, meta: &TaskMeta) -> Result<Option<Found>, Error> {
        let named = self.inspect_name(&container::name(meta)).await?;
        if named.as_ref().is_some_and(|found| found.meta.task == meta.task) {
            return Ok(named);
        }
        match self.renamed(meta).await? {
            Some(id) => self.inspect_name(&id).await,
            None => Ok(None),
        }
    }

    /// The id of the task's container, by its labels: for where nothing has its name. The oldest: a copy (`docker commit`) inherits
    /// the labels.
    pub(super) async fn renamed(&self, meta: &TaskMeta) -> Result<Option<String>, Error> {
        let found = self.listed(Some(labels::of_task(meta.task))).await?;
        Ok(found.into_iter().next().map(|found| found.container_id))
    }

    /// Asks something of the task's container: by its name, and only where nothing has that by its id.
    pub(super) async fn ask<T, Asked>(
        &self,
        meta: &TaskMeta,
        request: impl Fn(String) -> Asked + Send + Sync,
    ) -> Result<T, Fault>
    where
        T: Send,
        Asked: Future<Output = Result<T, Fault>> + Send,
    {
        match request(container::name(meta)).await {
            Err(fault) if fault.is_absent() => match self.renamed(meta).await.map_err(Fault::Known)? {
                Some(id) => request(id).await,
                None => Err(fault),
            },
            answer => answer,
        }
    }
}
