//! A library to be loaded before others: a disk on which every sync takes longer. Programs that share a file share the disk.
//!
//! The file named by `SLOW_DISK` holds one number of eight bytes, in the machine's order: how much longer a sync takes, in
//! microseconds. It may change while the program runs. Syncs of several threads overlap; each takes this long.
#![allow(unsafe_code, reason = "it takes the place of functions of the C library")]

use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, off64_t};

fn delay_us() -> Option<&'static AtomicU64> {
    static FILE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *FILE.get_or_init(|| {
        let file = std::fs::File::open(std::env::var_os("SLOW_DISK")?).ok()?;
        let bytes = size_of::<AtomicU64>();
        // SAFETY: a new mapping of a file, at an address of the kernel's choice.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is aligned to a page, as long as the number, and never taken away.
        Some(unsafe { &*at.cast::<AtomicU64>() })
    })
}

fn wait() {
    let delay_us = delay_us().map_or(0, |delay_us| delay_us.load(Ordering::Relaxed));
    if delay_us > 0 {
        std::thread::sleep(Duration::from_micros(delay_us));
    }
}

/// The C library's result: `errno` was set by the call.
fn answer(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

/// As the C library's.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    wait();
    // SAFETY: the caller's descriptor is handed on as it is.
    answer(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

/// As the C library's.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    wait();
    // SAFETY: the caller's descriptor is handed on as it is.
    answer(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

/// As the C library's. Only a call that waits until the data is written takes longer.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, offset: off64_t, bytes: off64_t, flags: c_uint) -> c_int {
    if flags & libc::SYNC_FILE_RANGE_WAIT_AFTER != 0 {
        wait();
    }
    // SAFETY: the caller's arguments are handed on as they are.
    answer(unsafe { libc::syscall(libc::SYS_sync_file_range, fd, offset, bytes, flags) })
}
