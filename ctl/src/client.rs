//! Requests to whichever manager answers.
//!
//! Every request of ours may be repeated: reads by nature, mutations by the request id inside them. So whenever it is
//! unclear what became of one, the next manager is asked the same thing, until one answers or the time is up.

mod lists;
mod reason;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use goat_core::model::RequestId;
use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::identity_client::IdentityClient;
use goat_tls::{Connector, Role, Transport};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::address::{Address, Addresses};
use crate::context::load;
use crate::exit::{Exit, Failure};
use reason::{cause, judge};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The last look of a command that was told to end.
const PARTING_LOOK: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MOST: Duration = Duration::from_secs(1);
/// A manager that holds a stream open and is gone is noticed after the sum of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

pub type Control = ControlClient<Channel>;

/// A request id for one mutation, kept over its retries.
pub fn request_id() -> String {
    RequestId::from_random(rand::random()).to_string()
}

/// The managers, of which one is enough.
#[derive(Debug)]
pub struct Client {
    addresses: Vec<Address>,
    transport: Transport,
    channels: RefCell<Vec<Option<Channel>>>,
    /// Who answered last, and is asked first.
    preferred: Cell<usize>,
    /// Of one request, over all managers and retries.
    timeout: Duration,
    /// For how long it is worth asking again where not even a connection was made.
    patience: Cell<Duration>,
}

/// What became of one request at one manager.
enum Attempt {
    /// It answered, and another would answer the same.
    Final(Status),
    /// Ask another.
    Next { why: String, is_reached: bool },
}

impl Client {
    pub fn new(addresses: Addresses, transport: Transport, timeout: Duration) -> Self {
        let addresses = addresses.0;
        Self {
            channels: RefCell::new(vec![None; addresses.len()]),
            addresses,
            transport,
            preferred: Cell::new(0),
            timeout,
            // A mistyped address should not take the whole time to say so, a restarting manager deserves some.
            patience: Cell::new(timeout / 4),
        }
    }

    /// From here on managers are known to be there: that none can be connected to now will pass.
    pub fn expect_interruptions(&self) {
        self.patience.set(self.timeout);
    }

    /// For a look at what has just been changed, after Ctrl-C: who wants to go does not wait for managers.
    pub fn hurry(&self) -> Duration {
        self.timeout.min(PARTING_LOOK)
    }

    /// How long one request may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The manager that answered last.
    pub fn answered_by(&self) -> &Address {
        &self.addresses[self.preferred.get()]
    }

    /// Asks until a manager answers.
    pub async fn unary<R, T, F>(&self, request: R, call: F) -> Result<T, Failure>
    where
        R: Clone,
        F: AsyncFn(&mut Control, Request<R>) -> Result<Response<T>, Status>,
    {
        self.unary_within(self.timeout, request, call).await
    }

    /// As [`Client::unary`], and None where what is asked for is not there.
    pub async fn find<R, T, F>(&self, request: R, call: F) -> Result<Option<T>, Failure>
    where
        R: Clone,
        F: AsyncFn(&mut Control, Request<R>) -> Result<Response<T>, Status>,
    {
        // NOT_FOUND is an answer here; as a reply it takes the way of one.
        let reply = self.unary(request, async |control: &mut Control, request: Request<R>| {
            match call(control, request).await {
                Ok(reply) => Ok(Response::new(Some(reply.into_inner()))),
                Err(status) if status.code() == Code::NotFound => Ok(Response::new(None)),
                Err(status) => Err(status),
            }
        });
        reply.await
    }

    /// As [`Client::unary`], in so much time.
    pub async fn unary_within<R, T, F>(&self, within: Duration, request: R, call: F) -> Result<T, Failure>
    where
        R: Clone,
        F: AsyncFn(&mut Control, Request<R>) -> Result<Response<T>, Status>,
    {
        self.ask(within, async |channel, left| call(&mut control(channel), made(request.clone(), Some(left))).await)
            .await
    }

    /// As [`Client::unary`], of the service for certificates and tokens.
    pub async fn identity<R, T, F>(&self, request: R, call: F) -> Result<T, Failure>
    where
        R: Clone,
        F: AsyncFn(&mut IdentityClient<Channel>, Request<R>) -> Result<Response<T>, Status>,
    {
        self.ask(self.timeout, async |channel, left| {
            call(&mut IdentityClient::new(channel), made(request.clone(), Some(left))).await
        })
        .await
    }

    /// New connections from now on, with the credentials that are in the file now.
    pub fn reconnect(&self, file: &Path) -> Result<(), Failure> {
        let replaced = load(file).map(|credentials| self.transport.replace(credentials))?;
        replaced.map_err(|error| Failure::failed(error.to_string()))?;
        self.channels.borrow_mut().fill(None);
        Ok(())
    }

    /// Asks until a manager has begun to answer; the stream itself may last.
    pub async fn stream<R, T, F>(&self, request: R, call: F) -> Result<Streaming<T>, Failure>
    where
        R: Clone,
        F: AsyncFn(&mut Control, Request<R>) -> Result<Response<Streaming<T>>, Status>,
    {
        self.ask(self.timeout, async |channel, _| call(&mut control(channel), made(request.clone(), None)).await).await
    }

    async fn ask<T, F>(&self, within: Duration, call: F) -> Result<T, Failure>
    where
        F: AsyncFn(Channel, Duration) -> Result<Response<T>, Status>,
    {
        let started = Instant::now();
        let deadline = started + within;
        // One that is silent must leave time for the others.
        let share = (within / self.addresses.len() as u32).max(CONNECT_TIMEOUT);
        let mut reasons: Vec<Option<String>> = vec![None; self.addresses.len()];
        let mut backoff = BACKOFF_FIRST;
        let mut is_any_reached = false;
        loop {
            let first = self.preferred.get();
            for step in 0..self.addresses.len() {
                let at = (first + step) % self.addresses.len();
                let left = deadline.saturating_duration_since(Instant::now()).min(share);
                if left.is_zero() {
                    return Err(self.unreachable(started.elapsed(), &reasons));
                }
                match self.attempt(at, left, &call).await {
                    Ok(reply) => {
                        self.preferred.set(at);
                        return Ok(reply);
                    }
                    Err(Attempt::Final(status)) => return Err(Failure::from_status(&status)),
                    Err(Attempt::Next { why, is_reached }) => {
                        is_any_reached |= is_reached;
                        // An attempt that the end of the time cut short tells less than the one before it.
                        if left == share || reasons[at].is_none() {
                            reasons[at] = Some(why);
                        }
                    }
                }
            }
            let until = if is_any_reached { deadline } else { deadline.min(started + self.patience.get()) };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.unreachable(started.elapsed(), &reasons));
            }
            // Up to a half more, so that many clients do not come back as one.
            sleep(backoff.mul_f64(1.0 + rand::random::<f64>() / 2.0).min(left)).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }

    async fn attempt<T, F>(&self, at: usize, left: Duration, call: &F) -> Result<T, Attempt>
    where
        F: AsyncFn(Channel, Duration) -> Result<Response<T>, Status>,
    {
        let started = Instant::now();
        let channel = self.channel(at, left).await.map_err(|why| Attempt::Next { why, is_reached: false })?;
        let left = left.saturating_sub(started.elapsed());
        let outcome = timeout(left, call(channel, left)).await;
        let (why, is_reached) = match outcome {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => match judge(&status) {
                Some(next) => next,
                None => return Err(Attempt::Final(status)),
            },
            Err(_) => (format!("no answer within {}", shown(left)), true),
        };
        // It may be a connection to a manager that is no longer there.
        if let Some(channel) = self.channels.borrow_mut().get_mut(at) {
            *channel = None;
        }
        Err(Attempt::Next { why, is_reached })
    }

    async fn channel(&self, at: usize, left: Duration) -> Result<Channel, String> {
        if let Some(channel) = self.channels.borrow()[at].clone() {
            return Ok(channel);
        }
        let within = left.min(CONNECT_TIMEOUT);
        let endpoint = Endpoint::from(self.addresses[at].uri())
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let connector = Connector::new(self.transport.clone(), Role::Manager, None, within);
        let silent = || format!("no connection within {}", shown(within));
        // The endpoint's own timeout leaves out the look-up of the name.
        let channel = match timeout(within, endpoint.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(cause(&error).unwrap_or_else(silent)),
            Err(_) => return Err(silent()),
        };
        self.channels.borrow_mut()[at] = Some(channel.clone());
        Ok(channel)
    }

    fn unreachable(&self, after: Duration, reasons: &[Option<String>]) -> Failure {
        let mut message = format!("no manager answered within {}", shown(after));
        for (address, reason) in self.addresses.iter().zip(reasons) {
            let reason = reason.as_deref().unwrap_or("was not tried, for lack of time");
            let _ = write!(message, "\n  {address}: {reason}");
        }
        Failure::new(Exit::Unreachable, message)
            .with_hint("check the addresses (-H or GOAT_ADDR) and that a majority of the managers runs")
    }
}

/// A request that must be answered in that time, and that says which trace it belongs to.
fn made<R>(body: R, within: Option<Duration>) -> Request<R> {
    let mut request = Request::new(body);
    if let Some(within) = within {
        request.set_timeout(within);
    }
    goat_observe::traces::inject(request.metadata_mut().as_mut());
    request
}

fn control(channel: Channel) -> Control {
    ControlClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A duration in tenths of a second: more digits mislead.
fn shown(duration: Duration) -> String {
    let text = format!("{:.1}", duration.as_secs_f64());
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_tenths_of_a_second() {
        assert_eq!(shown(Duration::from_millis(2_540)), "2.5 s");
        assert_eq!(shown(Duration::from_secs(10)), "10 s");
    }
}
