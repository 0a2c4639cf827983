//! What a bug report needs: of this manager, and through it of all others, which users may not reach themselves.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use goat_proto::v1;
use tonic::Status;

use super::cluster::peers;
use super::{Control, Events as Reports};
use crate::raft::Group;

/// For another manager's report.
const ASK: Duration = Duration::from_secs(5);

impl Control {
    pub(super) async fn get_debug_(&self, request: v1::GetDebugRequest) -> Result<Reports<v1::DebugReport>, Status> {
        let (group, debug) = (self.seat.group(), self.debug.clone());
        let (asked, turn) = (group.clone(), debug.turn().await);
        // The turn goes with the work: a caller that hangs up does not make room for the next.
        let own = tokio::task::spawn_blocking(move || debug.report(asked.as_ref(), &turn)).await;
        let own = own.map_err(|error| Status::internal(error.to_string()))?;
        let first = stream::iter([Ok(own)]);
        let Some(group) = group.filter(|_| !request.own_only) else { return Ok(first.boxed()) };
        let others = peers(&group).await.into_iter().filter(|peer| peer.id != group.id());
        let others: FuturesUnordered<_> = others.map(|peer| ask(group.clone(), peer)).collect();
        Ok(first.chain(others.map(Ok)).take_until(self.stopping.clone().cancelled_owned()).boxed())
    }
}

/// Another manager's report, or why there is none.
async fn ask(group: Group, peer: v1::Peer) -> v1::DebugReport {
    let v1::Peer { id, name, address, .. } = peer;
    let reported = match peer.reachable {
        true => reported(&group, &address).await,
        false => Err("it does not answer".into()),
    };
    match reported {
        Ok(report) => v1::DebugReport { id, name, address, ..report },
        Err(error) => v1::DebugReport { id, name, address, error, ..v1::DebugReport::default() },
    }
}

async fn reported(group: &Group, address: &str) -> Result<v1::DebugReport, String> {
    let mut client = group.peers().control(address).map_err(|error| error.to_string())?;
    let asked = async {
        let mut reports = client.get_debug(v1::GetDebugRequest { own_only: true }).await?.into_inner();
        reports.message().await
    };
    match tokio::time::timeout(ASK, asked).await {
        Ok(Ok(Some(report))) => Ok(report),
        Ok(Ok(None)) => Err("it said nothing".into()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {} s", ASK.as_secs())),
    }
}
