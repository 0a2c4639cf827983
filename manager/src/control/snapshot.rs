//! The whole state as a file: saved from any manager; and services brought back from one.

use std::sync::Arc;

use futures::StreamExt;
use goat_core::model::ServiceSpec;
use goat_core::state::command::MAX_COMMAND_BYTES;
use goat_core::state::command::{Action, ServiceChange};
use goat_core::undo::command_bytes;
use goat_proto::{convert, v1};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Control, Events as Pieces};
use crate::backup;

/// Pieces that wait for a slow client; then the reading waits, and holds on to its view of the database.
const QUEUE: usize = 8;
/// Each holds a view of the database and a thread for as long as its client takes.
const SAVED_AT_ONCE: usize = 4;

/// Room for those that are saved at once.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SAVED_AT_ONCE))
}

impl Control {
    pub(super) async fn save_snapshot_(&self) -> Result<Pieces<v1::SnapshotPiece>, Status> {
        let (group, _) = self.reading(None).await?;
        let permit = self.saving.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{SAVED_AT_ONCE} snapshots are being saved from here already; wait for one"
            ))
        })?;
        let (sender, pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut emit = |piece: backup::Piece| {
                let backup::Piece { data, rows_done, rows } = piece;
                sender.blocking_send(Ok(v1::SnapshotPiece { data: data.into(), rows_done, rows })).is_ok()
            };
            if let Err(error) = backup::write(&group, &mut emit) {
                // An error means that the client has left, and wants to know nothing more.
                let _ = sender.blocking_send(Err(Status::internal(format!("the state could not be read: {error}"))));
            }
        });
        Ok(ReceiverStream::new(pieces).take_until(self.stopping.clone().cancelled_owned()).boxed())
    }
}

fn change(wire: v1::ServiceChange) -> Result<ServiceChange, Status> {
    let spec = wire.spec.map(ServiceSpec::try_from).transpose()?.map(Box::new);
    Ok(ServiceChange { id: convert::parse("id", &wire.id)?, seen_version: wire.seen_version, spec })
}

impl Control {
    pub(super) async fn restore_services_(
        &self,
        request: v1::RestoreServicesRequest,
    ) -> Result<v1::RestoreServicesReply, Status> {
        let group = self.group()?;
        let changes: Vec<_> = request.changes.into_iter().map(change).collect::<Result<_, _>>()?;
        let bytes = command_bytes(&changes);
        if bytes > MAX_COMMAND_BYTES {
            return Err(Status::resource_exhausted(format!(
                "changes: {bytes} bytes are over the limit of {MAX_COMMAND_BYTES} for one request; restore services in parts, \
                 by name, or use the goatctl of this version, which does that by itself"
            )));
        }
        let replicas = |change: &ServiceChange| (change.id, change.spec.as_ref().map_or(0, |spec| spec.replicas()));
        let wanted: Vec<_> = changes.iter().map(replicas).collect();
        self.check_capacity(&group, &request.request_id, &wanted).await?;
        let action = Action::RestoreServices { changes };
        let (_, index) = self.mutate(&group, &request.request_id, action).await?;
        Ok(v1::RestoreServicesReply { index })
    }
}
