//! How fast entries become durable: the store against a plain file with one `fdatasync` an entry, in the same run, and a
//! group of three in one process. Figures of one machine at one moment: only the ratios carry further.
//!
//! `cargo run -p goat-raft-store --example append [DIR]`

#[path = "../tests/store/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::cluster::{Net, leader, members, start, stop, write};
use common::{Store, put, try_open};
use futures::StreamExt;
use goat_raft_store::TypeConfig;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

const PAYLOAD_BYTES: usize = 512;
const ROUND: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = TempDir::new_in(parent).expect("a directory to write to");
    let mut figures: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS {
        let dir = dir.path().join(round.to_string());
        std::fs::create_dir(&dir).expect("a directory to write to");
        figures[0].push(plain(&dir.join("plain")));
        let mut store = try_open(&dir.join("store")).expect("a new store");
        figures[1].push(appends(&mut store, 1).await);
        figures[2].push(appends(&mut store, 64).await);
        drop(store);
        figures[3].push(group(&dir).await);
    }
    let medians = figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    });
    let names =
        ["plain file, fdatasync each", "store, one at a time", "store, 64 in flight", "three managers, 64 clients"];
    for (name, per_s) in names.iter().zip(medians) {
        println!("{name:<28} {per_s:>8.0} /s   {:>5.2} x plain", per_s / medians[0]);
    }
}

fn plain(path: &Path) -> f64 {
    let mut file = File::create(path).expect("a file to write to");
    let payload = vec![b'.'; PAYLOAD_BYTES];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        file.write_all(&payload).and_then(|()| file.sync_data()).expect("a healthy disk");
        count += 1;
    }
    per_s(count, start)
}

async fn appends(store: &mut Store, in_flight: usize) -> f64 {
    let mut index = store.log.ends().last.map_or(0, |last| last.index + 1);
    let mut flushed = futures::stream::FuturesOrdered::new();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        while flushed.len() < in_flight {
            let (done, is_flushed) = TypeConfig::oneshot();
            let entry = put(1, index, vec![b'.'; PAYLOAD_BYTES]);
            store.log.append([entry], IOFlushed::signal(done)).await.expect("a healthy disk");
            flushed.push_back(is_flushed);
            index += 1;
        }
        flushed.next().await.expect("some are in flight").expect("the writer answers").expect("a healthy disk");
        count += 1;
    }
    let per_s = per_s(count, start);
    while flushed.next().await.is_some() {}
    per_s
}

async fn group(dir: &Path) -> f64 {
    let net = Net::default();
    let mut managers = Vec::new();
    for id in 1..=3 {
        managers.push(start(&net, dir, id).await);
    }
    managers[0].raft.initialize(members(1..=3)).await.expect("a new group");
    let at = usize::try_from(leader(&managers[0]).await).expect("small") - 1;
    write(&managers[at].raft, 64, 5, PAYLOAD_BYTES).await;
    let started = Instant::now();
    write(&managers[at].raft, 64, 150, PAYLOAD_BYTES).await;
    let per_s = per_s(64 * 150, started);
    for (id, manager) in (1..).zip(managers) {
        stop(&net, id, manager).await;
    }
    per_s
}

fn per_s(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
