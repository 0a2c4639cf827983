//! The whole state as a file: saved from any manager; and services brought back from one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use goat_core::model::ServiceSpec;
use goat_core::state::command::MAX_COMMAND_BYTES;
use goat_core::state::command::{Action, ServiceChange};
use goat_core::undo::command_bytes;
use goat_proto::{convert, v1};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

use super::{Control, Events as Pieces};
use crate::backup;
use crate::streams::{self, Ending, until_stopped};

/// Pieces that wait for a slow client; then the reading waits, and holds on to its view of the database.
const QUEUE: usize = 8;
/// Each holds a view of the database and a thread for as long as its client takes.
const SAVED_AT_ONCE: usize = 4;

/// For a client to take a piece. Then the snapshot ends with an error, and its view of the database is given back.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

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
        let end = Ending::new(Status::internal("the snapshot was not written to its end"));
        let (ending, runtime) = (end.clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut is_stalled = false;
            let mut emit = |piece: backup::Piece| {
                let backup::Piece { data, rows_done, rows } = piece;
                let piece = v1::SnapshotPiece { data: data.into(), rows_done, rows };
                let taken = send_within(&runtime, &sender, piece, TAKEN_WITHIN);
                is_stalled |= taken == Taken::Stalled;
                taken == Taken::Yes
            };
            let written = backup::write(&group, &mut emit);
            match written {
                _ if is_stalled => end.fail(stalled()),
                Ok(_) => end.complete(),
                Err(error) => end.fail(Status::internal(format!("the state could not be read: {error}"))),
            }
        });
        Ok(until_stopped(streams::ending(pieces, ending), self.stopping.clone()).boxed())
    }
}

/// Whether a client took a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    /// The client has gone.
    Left,
    /// The client is there, and takes nothing.
    Stalled,
}

/// Blocks until there is room for the piece, `within` at the most.
fn send_within<T>(runtime: &Handle, sender: &mpsc::Sender<T>, piece: T, within: Duration) -> Taken {
    match runtime.block_on(async { tokio::time::timeout(within, sender.send(piece)).await }) {
        Ok(Ok(())) => Taken::Yes,
        Ok(Err(_)) => Taken::Left,
        Err(_) => Taken::Stalled,
    }
}

fn stalled() -> Status {
    Status::deadline_exceeded(format!(
        "the snapshot was not read for {} s, and the manager does not keep it open for longer: save it again",
        TAKEN_WITHIN.as_secs()
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_takes_nothing_is_not_waited_for_without_end() {
        let (sender, pieces) = mpsc::channel(1);
        let runtime = Handle::current();
        let taken = tokio::task::spawn_blocking(move || {
            let mut taken: Vec<Taken> =
                (0..2).map(|piece| send_within(&runtime, &sender, piece, Duration::from_millis(50))).collect();
            drop(pieces);
            taken.push(send_within(&runtime, &sender, 3, TAKEN_WITHIN));
            taken
        });
        assert_eq!(taken.await.expect("it ends"), [Taken::Yes, Taken::Stalled, Taken::Left]);
    }
}
