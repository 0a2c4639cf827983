//! A library to be loaded before others, for storms: the clocks of the machine that a program thinks it runs on. Their rate
//! is wrong, and the time of day can be stepped while it runs. Programs of one machine share a file and so agree, whenever
//! they were started.
//!
//! The file named by `DRIFTING_CLOCK` holds six numbers of eight bytes, in the machine's order: when it was made by
//! CLOCK_REALTIME, CLOCK_MONOTONIC and CLOCK_BOOTTIME (ns), how wrong the rate is (ppm), the step (ns), 0.
#![allow(unsafe_code, reason = "it takes the place of functions of the C library")]

use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{c_int, clockid_t, timespec};

const NUMBERS: usize = 6;
const NS: i64 = 1_000_000_000;
const MILLION: i64 = 1_000_000;

type File = [AtomicI64; NUMBERS];

fn file() -> Option<&'static File> {
    static FILE: OnceLock<Option<&'static File>> = OnceLock::new();
    *FILE.get_or_init(|| {
        let file = std::fs::File::open(std::env::var_os("DRIFTING_CLOCK")?).ok()?;
        let bytes = size_of::<File>();
        // SAFETY: a new mapping of a file, at an address of the kernel's choice.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is aligned to a page, as long as the numbers, and never taken away.
        Some(unsafe { &*at.cast::<File>() })
    })
}

/// When the file was made by that clock; None of clocks that count something else than time.
fn base(file: &File, clock: clockid_t) -> Option<i64> {
    let place = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => 0,
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE => 1,
        libc::CLOCK_BOOTTIME => 2,
        _ => return None,
    };
    Some(file[place].load(Ordering::Relaxed))
}

/// Never overflows, and never goes back.
fn scaled(time: i64, by: i64, of: i64) -> i64 {
    i64::try_from(i128::from(time) * i128::from(by) / i128::from(of)).unwrap_or(time)
}

fn real(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the caller's pointer is handed on as it is.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}

/// As the C library's, by a clock that is wrong.
///
/// # Safety
/// As the C library's: `time` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let result = real(clock, time);
    let Some(file) = file().filter(|_| result == 0 && !time.is_null()) else { return result };
    let Some(base) = base(file, clock) else { return result };
    // SAFETY: the call above has written it.
    let told = unsafe { &mut *time };
    let now = told.tv_sec * NS + told.tv_nsec;
    let mut wrong = now + scaled(now - base, file[3].load(Ordering::Relaxed), MILLION);
    if matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        wrong += file[4].load(Ordering::Relaxed);
    }
    (told.tv_sec, told.tv_nsec) = (wrong.div_euclid(NS), wrong.rem_euclid(NS));
    result
}

/// As the C library's.
///
/// # Safety
/// As the C library's: `time` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, _zone: *mut libc::c_void) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is written to a value of this function's.
    let result = unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if result == 0 && !time.is_null() {
        // SAFETY: the caller says that it can be written.
        unsafe { *time = libc::timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000 } };
    }
    result
}

/// As the C library's: a time of a wrong clock is waited for by that clock.
///
/// # Safety
/// As the C library's: `wanted` can be read, and `left` written if it is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    wanted: *const timespec,
    left: *mut timespec,
) -> c_int {
    let base = file().and_then(|file| Some((file, base(file, clock)?)));
    let mut due = match wanted.is_null() {
        true => return libc::EFAULT,
        // SAFETY: the caller says that it can be read.
        false => unsafe { *wanted },
    };
    if let Some((file, base)) = base.filter(|_| flags & libc::TIMER_ABSTIME != 0) {
        let mut wrong = due.tv_sec * NS + due.tv_nsec;
        if clock == libc::CLOCK_REALTIME {
            wrong -= file[4].load(Ordering::Relaxed);
        }
        let right = base + scaled(wrong - base, MILLION, MILLION + file[3].load(Ordering::Relaxed));
        due = timespec { tv_sec: right.div_euclid(NS), tv_nsec: right.rem_euclid(NS) };
    }
    // SAFETY: one pointer is to a value of this function's, the other the caller's.
    let result = unsafe { libc::syscall(libc::SYS_clock_nanosleep, clock, flags, &raw const due, left) };
    // It answers with the error's number.
    if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINTR) }
}
