//! The calls by which a thread learns the time, random numbers and that something has happened, answered by the simulation
//! on the threads that it runs on. All other threads are answered by the system.
//!
//! | call | in a simulation |
//! | --- | --- |
//! | `clock_gettime` | the clock of the host that runs; it stands still while it runs |
//! | `getrandom` | the seed's numbers |
//! | `epoll_wait` | a host that would sleep says for how long, and gives way (see `kernel`) |
//!
//! These are the C library's names: whatever is linked into the program finds ours first. Nothing else may use `unsafe`.
#![allow(unsafe_code, reason = "the C library's functions have its signatures")]

use std::cell::{Cell, RefCell};
use std::task::Waker;

use libc::{c_int, c_uint, c_void, clockid_t, epoll_event, size_t, ssize_t, timespec};

const NS: u64 = 1_000_000_000;
/// A host that looks at its clock so often waits for it to move, without letting it.
const MAX_LOOKS: u64 = 3_000_000;

/// What a host that has nothing to do waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// A word from outside.
    Forever,
    /// That, or so many ms.
    For(u64),
}

/// The clocks of a host (ns).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clocks {
    pub(crate) monotonic: u64,
    pub(crate) real: u64,
}

thread_local! {
    static CLOCKS: Cell<Option<Clocks>> = const { Cell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    static IDLE: Cell<Option<Idle>> = const { Cell::new(None) };
    /// How often the running host has looked at its clock.
    static LOOKS: Cell<u64> = const { Cell::new(0) };
    static GIVE_WAY: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// From now on this thread is a simulation's. `seed`: of what `getrandom` gives.
pub(crate) fn begin(seed: u64) {
    RANDOM.set(seed);
    CLOCKS.set(Some(Clocks::default()));
}

/// It is the system's again.
pub(crate) fn end() {
    CLOCKS.set(None);
    GIVE_WAY.take();
}

pub(crate) fn set_clocks(clocks: Clocks) {
    CLOCKS.set(Some(clocks));
    LOOKS.set(0);
}

/// Whoever is woken when the running host has nothing more to do.
pub(crate) fn give_way_to(waker: Waker) {
    IDLE.set(None);
    GIVE_WAY.set(Some(waker));
}

/// What the host that gave way waits for; None while it still has something to do.
pub(crate) fn idle() -> Option<Idle> {
    IDLE.get()
}

fn next_random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// It would never end by itself, and nothing else can run meanwhile.
fn livelock(clocks: Clocks) -> ! {
    CLOCKS.set(None);
    println!(
        "  VIOLATION: a host runs for ever without letting time pass, at {} s of its clock",
        clocks.monotonic / NS
    );
    println!("{}", std::backtrace::Backtrace::force_capture());
    std::process::exit(3);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let Some(clocks) = CLOCKS.get() else {
        // SAFETY: the caller's arguments, as they came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    };
    LOOKS.set(LOOKS.get() + 1);
    if LOOKS.get() > MAX_LOOKS {
        livelock(clocks);
    }
    let now = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => clocks.real,
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
            clocks.monotonic
        }
        // What a thread has computed is nobody's simulated time.
        _ => {
            // SAFETY: as above.
            return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
        }
    };
    // SAFETY: the caller gives a place for a time.
    unsafe { time.write(timespec { tv_sec: (now / NS) as i64, tv_nsec: (now % NS) as i64 }) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if CLOCKS.get().is_none() {
        // SAFETY: the caller's arguments, as they came.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) } as ssize_t;
    }
    let mut done = 0;
    while done < len {
        let bytes = next_random().to_ne_bytes();
        let take = bytes.len().min(len - done);
        // SAFETY: the caller's buffer has `len` bytes, of which `done + take` are not more.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>().add(done), take) };
        done += take;
    }
    len as ssize_t
}

#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut epoll_event, room: c_int, timeout_ms: c_int) -> c_int {
    if CLOCKS.get().is_none() {
        // SAFETY: the caller's arguments, as they came; no signal mask.
        return unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epoll, events, room, timeout_ms, std::ptr::null::<c_void>(), 8)
        } as c_int;
    }
    // Nothing of the system's is ever waited for in a simulation.
    if timeout_ms != 0 {
        IDLE.set(Some(u64::try_from(timeout_ms).map_or(Idle::Forever, Idle::For)));
        if let Some(waker) = GIVE_WAY.take() {
            waker.wake();
        }
    }
    0
}
