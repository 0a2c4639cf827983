//! A thread for handshakes, with a lower priority than the threads that serve connections.

use std::future::Future;
use std::thread;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle};
use tracing::warn;

/// If both want to run, the kernel gives a thread of this niceness a quarter of a processor, and one of niceness 0 the rest.
const NICENESS: i32 = 5;

/// Runs a task that accepts connections. If there can be no thread for it, it runs among the others.
pub(crate) fn run<F>(task: F)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let others = Handle::current();
    let runtime = Builder::new_current_thread().enable_time().build();
    let task = Box::pin(task);
    let (task, error) = match runtime {
        Ok(runtime) => {
            let (give, take) = std::sync::mpsc::channel();
            let work = move || {
                if let Err(error) = setpriority_process(None, NICENESS) {
                    warn!(error = %std::io::Error::from(error), "handshakes have no lower priority");
                }
                if let Ok(task) = take.recv() {
                    runtime.block_on(task);
                }
            };
            match thread::Builder::new().name("handshakes".into()).spawn(work) {
                Ok(_) => {
                    // The thread waits for it.
                    let _ = give.send(task);
                    return;
                }
                Err(error) => (task, error),
            }
        }
        Err(error) => (task, error),
    };
    warn!(%error, "there is no thread for handshakes");
    others.spawn(async move { drop(task.await) });
}
