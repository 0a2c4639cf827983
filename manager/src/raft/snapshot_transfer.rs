//! Sending a snapshot to a peer, in parts. An attempt that fails starts from the beginning.

use goat_proto::v1;
use goat_raft_store::{SnapshotFile, TypeConfig};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::SnapshotResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::network::{Link, Lost, into_streaming, rpc_error};
use super::peers::Purpose;
use super::wire;

/// A part of a snapshot on the wire.
const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
const SNAPSHOT_CHUNKS_AHEAD: usize = 4;

impl Link {
    pub(super) async fn send_snapshot(
        &self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        option: &RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let head = self.message(&(vote, snapshot.meta)).map_err(into_streaming)?;
        let client = self.network.peers.raft_for(Purpose::Snapshot, &self.address);
        let (connection, mut client) = client.map_err(|error| Unreachable::new(&error))?;
        let mut file = snapshot.snapshot.open().await.map_err(|error| NetworkError::new(&error))?;
        let (chunks, receiver) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        let send = async {
            let mut head = Some(head);
            let mut offset = 0;
            loop {
                let data = file.read_chunk(SNAPSHOT_CHUNK_BYTES).await.map_err(|error| NetworkError::new(&error))?;
                let is_last = data.is_empty();
                let sent = data.len() as u64;
                if is_last && head.is_none() {
                    drop(chunks);
                    return Ok::<_, StreamingError<TypeConfig>>(());
                }
                let chunk = v1::SnapshotChunk { head: head.take(), offset, data };
                // The peer takes no chunk for so long: this attempt ends, the next one starts from the beginning.
                match tokio::time::timeout(option.hard_ttl(), chunks.send(chunk)).await {
                    Ok(Ok(())) => offset += sent,
                    Ok(Err(_)) => return Ok(()), // the call has ended and says why
                    Err(elapsed) => return Err(Unreachable::new(&elapsed).into()),
                }
            }
        };
        let call = client.install_snapshot(ReceiverStream::new(receiver));
        let (sent, answer) = tokio::select! {
            both = async { tokio::join!(send, call) } => both,
            () = self.network.reach.lost(self.target) => {
                self.network.peers.forget_failed(Purpose::Snapshot, &self.address, connection);
                return Err(Unreachable::new(&Lost).into());
            }
        };
        let answer = answer.map_err(|status| into_streaming(rpc_error(&status)))?;
        sent?;
        wire::decode(&answer.into_inner().payload).map_err(|status| NetworkError::new(&status).into())
    }
}
