//! A crowd that a drill sends to a cluster: many tasks on a thread of low priority. In real life the crowd is on other
//! machines: the time that it takes to make its connections must not be missing here.

use std::thread;
use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::taskset::TaskSet;

const NICENESS: i32 = 10;
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Dispersed when dropped, too, but then without a wait.
pub(super) struct Crowd {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Crowd {
    /// Starts a thread with the tasks that `work` spawns.
    pub(super) fn gather(name: &'static str, work: impl FnOnce(&TaskSet) + Send + 'static) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::failed(format!("no runtime for {name}: {error}")))?;
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let stopped = stop.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            setpriority_process(None, NICENESS).expect("a thread may always lower its priority");
            runtime.block_on(async {
                let tasks = TaskSet::new(name);
                work(&tasks);
                stopped.cancelled().await;
                tasks.stop(STOP_GRACE).await;
            });
            // Nobody may wait any more.
            let _ = end.send(());
        });
        thread.map_err(|error| Error::failed(format!("no thread for {name}: {error}")))?;
        Ok(Self { stop, ended })
    }

    /// Ends all tasks, and with them their connections.
    pub(super) async fn disperse(mut self) {
        self.stop.cancel();
        // An error: the thread has ended without a word.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
