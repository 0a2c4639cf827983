//! Keeps this manager's own certificate new: it signs it itself, with what the replicated state holds.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use goat_tls::{Error, Role, Transport};
use tracing::{info, warn};

use super::issue::{issue, wanted_stance};
use crate::machine::changed;
use crate::raft::Group;

/// A certificate lasts for months, but a clock that was months off may be set right at any time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Until it is cancelled. `path`: of the credentials.
pub async fn run(group: Group, transport: Transport, path: PathBuf) {
    let mut changes = group.view().changes();
    let mut restored = group.view().restored();
    loop {
        let wait = match renew_where_due(&group, &transport, &path).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                warn!(%error, "this manager's certificate could not be renewed, trying again");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = restored.changed() => {}
            change = changed(&mut changes, |change| change.security) => if change.is_none() { return },
        }
    }
}

async fn renew_where_due(group: &Group, transport: &Transport, path: &std::path::Path) -> Result<(), Error> {
    let Some(security) = group.view().read().security().cloned() else { return Ok(()) };
    let Some(own) = transport.credentials() else { return Ok(()) };
    if own.stance() == wanted_stance(&security)? && !own.is_due(SystemTime::now()) {
        return Ok(());
    }
    let (cluster, id, path) = (group.cluster(), group.id(), path.to_owned());
    let made = tokio::task::spawn_blocking(move || {
        let credentials = issue(&security, cluster, Role::Manager, &id.to_string())?;
        credentials.store(&path)?;
        Ok::<_, Error>(credentials)
    });
    let credentials = made.await.map_err(|error| Error::Make(error.to_string()))??;
    let (_, until) = credentials.valid();
    transport.replace(credentials)?;
    info!(valid_until = %humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(until)), "renewed this manager's certificate");
    Ok(())
}
