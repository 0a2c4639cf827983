//! A library to be loaded before others, for the control: syncing RocksDB's write-ahead log does nothing and is said to have
//! worked. Whoever checks what a power loss leaves must notice.
#![allow(unsafe_code, reason = "it takes the place of a function of the C library")]

use std::path::Path;

/// As the C library's, but for write-ahead logs.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: libc::c_int) -> libc::c_int {
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    if Path::new(&path).extension().is_some_and(|end| end == "log") {
        return 0;
    }
    // SAFETY: the caller's descriptor is handed on as it is.
    let result = unsafe { libc::syscall(libc::SYS_fdatasync, fd) };
    libc::c_int::try_from(result).unwrap_or(-1)
}
