//! Managers made up for a test: each serves the world that they share, with an address and faults of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use goat_proto::v1::control_server::ControlServer;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

use crate::control::Fake;
use crate::fake::World;

/// A client that does not answer a ping within this time is taken for gone.
pub const KEEPALIVE: Duration = Duration::from_secs(1);

/// What a manager does instead of answering.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers after all: so that a fault can come later.
    None,
    /// Refuses, having done nothing.
    Refuse(tonic::Code, &'static str),
    /// Does it, and then cannot say so: what a client sees of a leader that loses its place in mid-request.
    DoAndFail,
    /// Says nothing, ever.
    Silent,
}

/// One manager; it ends with this value.
#[derive(Debug)]
pub struct Manager {
    pub address: String,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    always: Arc<Mutex<Option<Fault>>>,
    /// Of its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Manager {
    pub fn start(world: &Arc<World>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("it can wait");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (faults, always) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(Mutex::new(None)));
        let fake = Fake { world: world.clone(), faults: faults.clone(), always: always.clone() };
        let runtime = Runtime::new().expect("there are threads");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it is a listener");
            let served = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE))
                .add_service(ControlServer::new(fake))
                .serve_with_incoming(TcpListenerStream::new(listener));
            served.await.expect("a server on loopback does not fail");
        });
        Self { address, faults, always, runtime: Some(runtime) }
    }

    /// For the next requests, one each.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().extend(faults);
    }

    /// For every request but the next `count`.
    pub fn after(&self, count: usize, fault: Fault) {
        self.faults.lock().extend(std::iter::repeat_n(Fault::None, count));
        self.always(Some(fault));
    }

    /// For every request from now on.
    pub fn always(&self, fault: Option<Fault>) {
        *self.always.lock() = fault;
    }
}

/// An address that nobody listens on.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    listener.local_addr().expect("it is bound").to_string()
}
