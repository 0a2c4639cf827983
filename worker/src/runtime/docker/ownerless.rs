//! Running containers of other nodes of the cluster that nobody seems to own: workers may share a daemon, so that only those count
//! whose watchdog, which lives as long as its agent, is not seen in `/proc`. They are shown and not stopped: a worker in a container
//! of its own is not seen either.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use bollard::query_parameters as query;
use goat_core::model::ClusterId;

use super::super::Error;
use super::calls::{self, within};
use super::error::Fault;
use super::{DockerRuntime, labels};

impl DockerRuntime {
    /// See `Runtime::ownerless`.
    pub(super) async fn containers_without_owner(&self, cluster: ClusterId) -> Result<BTreeMap<String, usize>, Error> {
        let filters = HashMap::from([("label", vec![labels::of_cluster(cluster)])]);
        let options = query::ListContainersOptionsBuilder::default().filters(&filters).build();
        let client = self.client()?;
        let running = within(calls::LIST, client.list_containers(Some(options))).await.map_err(Fault::general)?;
        let own = self.node.to_string();
        let mut counts = BTreeMap::new();
        for container in running {
            if let Some(node) = container.labels.as_ref().and_then(labels::read_node).filter(|node| *node != own) {
                *counts.entry(node).or_default() += 1;
            }
        }
        if !counts.is_empty() {
            let watched = tokio::task::spawn_blocking(|| watched_nodes(Path::new("/proc"))).await;
            let watched = watched.expect("looking does not panic, and is not aborted");
            counts.retain(|node, _| !watched.contains(node));
        }
        Ok(counts)
    }
}

/// Nodes whose watchdog lives here.
fn watched_nodes(proc: &Path) -> BTreeSet<String> {
    let processes = std::fs::read_dir(proc).into_iter().flatten().flatten();
    processes.filter_map(|process| node_of(&std::fs::read(process.path().join("cmdline")).ok()?)).collect()
}

/// The node of a watchdog, from its command line.
fn node_of(cmdline: &[u8]) -> Option<String> {
    let mut words = cmdline.split(|byte| *byte == 0).skip(1).map(String::from_utf8_lossy);
    words.next().filter(|word| word == "watchdog")?;
    words.find(|word| word == "--node")?;
    words.next().map(|node| node.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_known_by_its_command_line() {
        let line = b"/usr/bin/goat-worker\0watchdog\0/var/lib/goat/worker\0--node\0abc\0--docker-host\0/run/d\0";
        assert_eq!(node_of(line), Some("abc".into()));
        assert_eq!(node_of(b"/usr/bin/goat-worker\0run\0--node\0abc\0"), None);
        assert_eq!(node_of(b""), None);
    }
}
