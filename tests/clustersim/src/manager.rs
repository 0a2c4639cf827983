//! A manager's life, as its machine's administrator and `goat-manager` lead it.

use std::path::PathBuf;
use std::time::Duration;

use goat_manager::config::{Config, LogFormat};
use goat_manager::found;
use goat_manager::newcomer::{self, Newcomer};
use goat_manager::raft::{self, Seated, welcome};
use goat_manager::server::{self, Ground};
use goat_observe::Ring;
use goat_raft_store::Base;
use goat_tls::Network;
use tokio_util::sync::CancellationToken;

use crate::kernel::HostId;
use crate::witness::Witness;

/// What a manager is started with.
pub(crate) struct Start {
    pub(crate) host: HostId,
    pub(crate) dir: PathBuf,
    pub(crate) addresses: Vec<String>,
    pub(crate) network: Network,
    pub(crate) base: Base,
    pub(crate) snapshot_entries: u64,
}

/// What managers know it by.
pub(crate) fn name(host: HostId) -> String {
    format!("m{host}")
}

/// A manager's life, from its first start on: the first one makes the cluster, the others join it.
pub(crate) async fn run(start: Start) -> anyhow::Result<()> {
    let Start { host, dir, addresses, network, base, snapshot_entries } = start;
    let address = addresses[host].clone();
    let newcomer = Newcomer { data_dir: dir.clone(), name: name(host), address: address.clone(), is_plaintext: true };
    // Who was cut off while it made the cluster begins again where it was.
    let is_made = dir.join("made").exists();
    match (host, is_made, Seated::of(&dir)?) {
        (0, false, _) => {
            let made = found::found_on(&newcomer, &dir.join("client.pem"), Some(base.clone())).await;
            if let Err(error) = made
                && !error.to_string().contains("already")
            {
                return Err(error);
            }
            std::fs::write(dir.join("made"), "")?;
            // A process of its own does that; what it leaves running ends with it.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (1.., _, None) => {
            newcomer::join_over(&newcomer, &addresses, None, None, network.clone()).await?;
        }
        _ => {}
    }
    let config = Config {
        listen: address.parse()?,
        data_dir: dir,
        plaintext: true,
        bind_source: None,
        heartbeat_interval_ms: 100,
        election_timeout_min_ms: 250,
        election_timeout_max_ms: 450,
        worker_heartbeat_ms: 500,
        lease_ttl_ms: 2_500,
        snapshot_entries,
        http_listen: None,
        backup: None,
        otlp_endpoint: None,
        log_level: "info".into(),
        log_format: LogFormat::Text,
    };
    server::run_on(config, Ring::default(), Ground::simulated(network, base), CancellationToken::new()).await
}

/// A manager that ends itself because of its disk is fine. One that finds its disk too old, or itself removed, is not:
/// nothing here makes disks forget what they have synced, and nobody removes managers.
pub(crate) fn judge_end(witness: &Witness, host: HostId, error: &anyhow::Error) {
    let is_unwelcome = error.is::<welcome::Error>() || matches!(error.downcast_ref(), Some(raft::Error::Unwelcome(_)));
    if is_unwelcome {
        witness.violation(format!("host {host} is not let back in: {error:#}"));
    }
}
