//! Simulated time and the hosts in it: one thread, one tokio runtime a host, each run only when it has something to do.
//!
//! ```text
//! next time ─► what the network delivers then ─► hosts that are told of it, or whose timers have come ─► each runs until
//!     ▲                                                                                                  it would sleep
//!     └────────────────────────────────────────── says for how long (`interpose`) ◄──────────────────────────┘
//! ```
//! Nothing runs at the same time as anything else, and a host's clock stands still while it runs. So the order of
//! everything follows from the seed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::interpose::{self, Clocks, Idle};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000 * US;
pub const SECOND: u64 = 1_000 * MS;

/// Every host's clocks begin here (ns): long after the boot, and in 2026.
const BOOT: u64 = 1_000 * SECOND;
const EPOCH: u64 = 1_790_000_000 * SECOND;
const MILLION: u128 = 1_000_000;
const NEVER: u64 = u64::MAX;

/// The number of a host, from 0.
pub type HostId = usize;
/// What a host does.
pub type Main = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock whose rate may be wrong.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// At this true time it showed `shown`.
    since: u64,
    shown: u64,
    /// Of a second that it shows in a true one, millionths.
    rate: u64,
}

impl Clock {
    fn at(&self, now: u64) -> u64 {
        self.shown + (u128::from(now - self.since) * u128::from(self.rate) / MILLION) as u64
    }

    /// The first true time at which it shows `shown`.
    fn when(&self, shown: u64) -> u64 {
        let ahead = u128::from(shown.saturating_sub(self.shown));
        self.since + (ahead * MILLION).div_ceil(u128::from(self.rate)) as u64
    }
}

#[derive(Debug)]
struct Host {
    runtime: Option<Runtime>,
    main: Option<JoinHandle<()>>,
    clock: Clock,
    /// By how much its time of day is ahead of its clock (ns).
    ahead: i64,
    /// The true time at which its next timer is due.
    wake: u64,
    /// Told of something.
    told: Vec<Waker>,
    is_frozen: bool,
}

/// All hosts, and the true time.
#[derive(Debug)]
pub struct Kernel {
    now: u64,
    hosts: Vec<Host>,
    /// How often a host was run.
    pub steps: u64,
}

impl Kernel {
    /// At time 0. From here on this thread is the simulation's, until the kernel is dropped.
    pub fn new(hosts: usize, seed: u64) -> Self {
        interpose::begin(seed);
        let clock = Clock { since: 0, shown: BOOT, rate: MILLION as u64 };
        let host =
            || Host { runtime: None, main: None, clock, ahead: 0, wake: NEVER, told: Vec::new(), is_frozen: false };
        Self { now: 0, hosts: (0..hosts).map(|_| host()).collect(), steps: 0 }
    }

    /// The true time (ns since the beginning).
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Starts a host that is down.
    pub fn start(&mut self, id: HostId, main: Main) {
        self.set_clocks(id);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_start(|| panic!("a simulated host has no second thread"))
            .build()
            .expect("a runtime needs a few file descriptors");
        let host = &mut self.hosts[id];
        host.main = Some(runtime.spawn(main));
        host.runtime = Some(runtime);
        host.wake = self.now;
    }

    /// Ends a host on the spot: nothing of it runs any more.
    pub fn kill(&mut self, id: HostId) {
        self.set_clocks(id);
        let host = &mut self.hosts[id];
        host.told.clear();
        host.wake = NEVER;
        host.is_frozen = false;
        host.main = None;
        drop(host.runtime.take());
    }

    pub fn is_up(&self, id: HostId) -> bool {
        self.hosts[id].runtime.is_some()
    }

    /// Whether it runs and its main future has ended.
    pub fn has_ended(&self, id: HostId) -> bool {
        self.hosts[id].main.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Stops a host as SIGSTOP does, or lets it go on.
    pub fn freeze(&mut self, id: HostId, is_frozen: bool) {
        self.hosts[id].is_frozen = is_frozen;
    }

    pub fn is_frozen(&self, id: HostId) -> bool {
        self.hosts[id].is_frozen
    }

    /// From now on its clocks run wrong by so many millionths.
    pub fn drift(&mut self, id: HostId, ppm: i64) {
        let host = &mut self.hosts[id];
        let shown = host.clock.at(self.now);
        let due = (host.wake != NEVER).then(|| host.clock.at(host.wake.max(self.now)));
        host.clock = Clock { since: self.now, shown, rate: (MILLION as i64 + ppm) as u64 };
        host.wake = due.map_or(NEVER, |due| host.clock.when(due));
    }

    /// Sets its time of day, to be ahead by so much (ns) from now on. What waits is not moved by that.
    pub fn set_clock(&mut self, id: HostId, ahead: i64) {
        self.hosts[id].ahead = ahead;
    }

    /// Somebody there is to be woken when it runs next.
    pub fn tell(&mut self, id: HostId, waker: Waker) {
        self.hosts[id].told.push(waker);
    }

    /// When the next host has something to do.
    pub fn next(&self) -> u64 {
        let due = |host: &Host| match (host.runtime.is_some() && !host.is_frozen, host.told.is_empty()) {
            (false, _) => NEVER,
            (true, false) => self.now,
            (true, true) => host.wake.max(self.now),
        };
        self.hosts.iter().map(due).min().unwrap_or(NEVER)
    }

    /// Moves the time on; it never goes back.
    pub fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Runs every host that has something to do now.
    pub fn run_due(&mut self) {
        for id in 0..self.hosts.len() {
            let host = &self.hosts[id];
            if host.runtime.is_some() && !host.is_frozen && (host.wake <= self.now || !host.told.is_empty()) {
                self.run(id);
            }
        }
    }

    fn set_clocks(&self, id: HostId) {
        let host = &self.hosts[id];
        let shown = host.clock.at(self.now);
        let real = (shown - BOOT + EPOCH).saturating_add_signed(host.ahead);
        interpose::set_clocks(Clocks { monotonic: shown, real });
    }

    /// Until it has nothing more to do at this time.
    fn run(&mut self, id: HostId) {
        self.set_clocks(id);
        self.steps += 1;
        let host = &mut self.hosts[id];
        let Some(runtime) = &host.runtime else { return };
        let mut told = std::mem::take(&mut host.told);
        let mut is_entered = false;
        runtime.block_on(poll_fn(|context| {
            if !std::mem::replace(&mut is_entered, true) {
                told.drain(..).for_each(Waker::wake);
                interpose::give_way_to(context.waker().clone());
                return Poll::Pending;
            }
            match interpose::idle() {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        }));
        host.wake = match interpose::idle() {
            Some(Idle::For(ms)) => host.clock.when(host.clock.at(self.now) + ms * MS),
            _ => NEVER,
        };
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for id in 0..self.hosts.len() {
            self.kill(id);
        }
        interpose::end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_clock_that_is_set_says_so_and_what_waits_is_not_moved() {
        let (says, said) = mpsc::channel();
        let mut kernel = Kernel::new(1, 1);
        let looks_twice = async move {
            for _ in 0..2 {
                says.send(SystemTime::now()).expect("somebody listens");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        kernel.start(0, Box::pin(looks_twice));
        kernel.run_due();
        kernel.set_clock(0, -3_600 * SECOND as i64);
        while kernel.next() < 2 * SECOND {
            kernel.advance(kernel.next());
            kernel.run_due();
        }
        let said: Vec<SystemTime> = said.try_iter().collect();
        let back = said[0].duration_since(said[1]).expect("the second look is earlier by the time of day");
        assert!((3_598_900..=3_599_000).contains(&back.as_millis()), "{back:?}");
    }
}
