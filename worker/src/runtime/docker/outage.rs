//! What holds while the daemon does not answer: which calls may be given up, and what can still be known of containers.
//!
//! A daemon that is dead and one that hangs differ in what is to come. The dead one has forgotten what it was asked; one
//! that hangs, or is held by its service manager's socket, may yet carry out a start that was asked for. So a container
//! whose start was not answered counts as ended only after the daemon has died, and one that ran as soon as it has no
//! process: nothing but GOAT starts containers, and GOAT starts each once.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::super::Error;
use super::evidence::Sight;

/// For a connection to a local socket, which the kernel makes without the daemon.
const CONNECT: Duration = Duration::from_secs(2);

/// The daemon's absence, and what is known in it.
#[derive(Debug)]
pub(super) struct Outage {
    socket: String,
    /// False from when it was found not to answer until it does.
    answers: watch::Sender<bool>,
    /// While a stream to it stands, it has not died.
    is_connected: watch::Sender<bool>,
    /// Containers whose start was asked for and not answered.
    starting: Mutex<BTreeSet<String>>,
    pub(super) sight: Sight,
}

impl Outage {
    /// Blocks. `root`: the data directory.
    pub(super) fn new(socket: &str, root: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            answers: watch::Sender::new(true),
            is_connected: watch::Sender::new(false),
            starting: Mutex::default(),
            sight: Sight::open(root.join("sight.json")),
        }
    }

    pub(super) fn set_answers(&self, answers: bool) {
        self.answers.send_if_modified(|told| std::mem::replace(told, answers) != answers);
    }

    pub(super) fn answers(&self) -> bool {
        *self.answers.borrow()
    }

    /// A stream to it was opened, or the last one has ended.
    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.send_replace(is_connected);
    }

    pub(super) fn start_asked(&self, container: &str) {
        self.starting.lock().insert(container.to_owned());
    }

    /// It was done, was refused, or is known to have been done.
    pub(super) fn start_answered(&self, container: &str) {
        self.starting.lock().remove(container);
    }

    /// The call's result, unless the daemon has not answered for `patience` meanwhile.
    pub(super) async fn unless_down<T>(&self, patience: Duration, call: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = call => Ok(result),
            () = self.down_for(patience) => Err(Error::Unreachable { problem: "the daemon does not answer".into() }),
        }
    }

    async fn down_for(&self, patience: Duration) {
        let mut answers = self.answers.subscribe();
        while answers.wait_for(|answers| !answers).await.is_ok() {
            if tokio::time::timeout(patience, answers.wait_for(|answers| *answers)).await.is_err() {
                return;
            }
        }
        // The sender lives as long as this does.
        std::future::pending().await
    }

    /// As `Runtime::certainly_ended`.
    pub(super) async fn certainly_ended(&self, mut containers: Vec<String>) -> Vec<String> {
        if !self.is_dead().await {
            let starting = self.starting.lock();
            containers.retain(|container| !starting.contains(container));
        }
        self.sight.without_process(containers).await
    }

    /// Its streams have ended and nobody listens where it did.
    async fn is_dead(&self) -> bool {
        if *self.is_connected.borrow() {
            return false;
        }
        match tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(Err(error)) => {
                matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_given_up_when_the_daemon_has_been_silent_for_long_enough() {
        let dir = tempfile::tempdir().expect("a directory");
        let outage = Outage::new("/nowhere/docker.sock", dir.path());
        let never = std::future::pending::<()>;
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3_600));
        assert_eq!(outage.unless_down(Duration::ZERO, async { 7 }).await, Ok(7));
        outage.set_answers(false);
        assert!(outage.unless_down(Duration::ZERO, never()).await.is_err());
        assert!(outage.unless_down(short, never()).await.is_err());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let back = async {
            tokio::task::yield_now().await;
            outage.set_answers(true);
            answer.send(7).expect("it is waited for");
        };
        assert_eq!(futures::join!(outage.unless_down(long, answered), back).0, Ok(Ok(7)), "it was not long enough");
    }

    #[tokio::test]
    async fn a_daemon_lives_while_a_stream_stands_or_somebody_listens() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("docker.sock");
        let outage = Outage::new(socket.to_str().expect("text"), dir.path());
        assert!(outage.is_dead().await, "there is no socket");
        outage.set_connected(true);
        assert!(!outage.is_dead().await);
        outage.set_connected(false);
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert!(!outage.is_dead().await, "nobody accepts, but somebody will");
        drop(listener);
        assert!(outage.is_dead().await);
    }
}
