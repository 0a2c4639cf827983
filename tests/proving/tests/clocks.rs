//! Clocks that are months off: a cluster that was off for a hundred days has certificates that have expired; one whose clocks
//! were so wrong for a while has some that are not valid yet. It comes back by itself from both.

use std::process::Command;
use std::time::Duration;

use goat_proving::chaos::clocks::Clocks;
use goat_testcluster::Cluster;
use goat_testcluster::cluster::Options;
use goat_testcluster::runtime::RuntimeKind;
use serde_json::Value;
use tokio::time::Instant;

const MEMBERS: [&str; 4] = ["m1", "m2", "m3", "w1"];
const HUNDRED_DAYS_MS: i64 = 100 * 24 * 3_600_000;
/// A manager and a worker look for a new certificate when they start, and again after some seconds.
const WITHIN: Duration = Duration::from_secs(60);

struct World {
    cluster: Cluster,
    clocks: Clocks,
    goatctl: std::path::PathBuf,
}

impl World {
    /// goatctl on the first manager's machine.
    fn goatctl(&self, args: &[&str]) -> Result<String, String> {
        let layout = self.cluster.layout();
        let output = Command::new(&self.goatctl)
            .envs(self.clocks.env().remove("m1").unwrap_or_default())
            .args(["-H", &layout.addresses().join(","), "--timeout", "5s", "--credentials"])
            .arg(layout.credentials())
            .args(args)
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// How many of what it lists fit.
    fn count(&self, listed: &[&str], fits: impl Fn(&Value) -> bool) -> Result<usize, String> {
        let told = self.goatctl(&[listed, &["-o", "json"]].concat())?;
        let all: Vec<Value> = serde_json::from_str(&told).map_err(|error| error.to_string())?;
        Ok(all.iter().filter(|one| fits(one)).count())
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut() -> Result<bool, String>) {
        let deadline = Instant::now() + WITHIN;
        loop {
            let last = is_so();
            if last == Ok(true) {
                return;
            }
            let logs = || MEMBERS.map(|name| std::fs::read_to_string(self.cluster.layout().log_path(name)));
            assert!(Instant::now() < deadline, "not within {WITHIN:?}: {what}: {last:?}; {:#?}", logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// All are stopped, and started at another time of day.
    async fn restart_at(&self, step_ms: i64) {
        for name in MEMBERS {
            self.cluster.stop(name).await.expect("it runs");
        }
        for name in MEMBERS {
            self.clocks.step(name, step_ms).expect("it has a clock");
        }
        for name in MEMBERS {
            self.cluster.start(name).await.expect("it is stopped");
        }
    }

    /// The leader gives the worker so many tasks, and hears that they run; every manager is heard.
    async fn works(&self, replicas: usize) {
        let number = replicas.to_string();
        self.until("the service is scaled", || {
            self.goatctl(&["service", "scale", "--monitor", "0", "web", &number]).map(|_| true)
        })
        .await;
        let runs = |task: &Value| task["state"] == "running";
        self.until("they run", || Ok(self.count(&["task", "ls"], runs)? == replicas)).await;
        let votes = |peer: &Value| peer["reachable"] == true && peer["standing"] == "voter";
        self.until("all managers vote", || Ok(self.count(&["manager", "ls"], votes)? == 3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_after_a_hundred_days_and_when_its_clocks_are_set_right() {
    let dir = tempfile::tempdir().expect("there is room");
    let own = dir.path().join("cluster");
    let clocks = Clocks::make(&own, &MEMBERS.map(|name| (name.to_owned(), 0))).expect("the library is built");
    let mut options = Options::new(own, RuntimeKind::Process).expect("the programs are built");
    options.workers = 1;
    options.env = clocks.env();
    let goatctl = options.binaries.join("goatctl");
    let world = World { cluster: Cluster::up(options).await.expect("it starts"), clocks, goatctl };
    let run = ["run", "--monitor", "0", "--name", "web", "--driver", "process", "/bin/sleep", "1000"];
    world.until("it can be used", || world.goatctl(&run).map(|_| true)).await;
    world.works(1).await;

    world.restart_at(HUNDRED_DAYS_MS).await;
    world.works(2).await;

    world.restart_at(0).await;
    world.works(3).await;
    world.cluster.down(false).await.expect("it ends");
}
