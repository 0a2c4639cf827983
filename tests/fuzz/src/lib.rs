//! Bytes that nobody meant, for every decoder that meets bytes from outside. What is asked of each: it does not panic, it
//! takes no more memory than its input can be worth, and what it makes of bytes it makes of them again.
//!
//! Bytes are made from samples: real values, encoded as production encodes them, and the small corpus in `corpus/`.
//! Nothing steers by coverage, so that the stable toolchain and seconds are enough; a sample per kind of value is what
//! makes up for it.

pub mod mutate;
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// More than any input of a few KiB is worth: decoders that believe a length take gigabytes.
const MOST_BYTES: usize = 48 << 20;

/// A decoder, or a promise about values that came through one.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// What it is given in production, a few of each kind.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
}

/// What is wrong with what a target does of `bytes`.
pub fn try_bytes(target: &Target, bytes: &[u8]) -> Result<(), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    let taken = MEMORY.peak_usage().saturating_sub(before);
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(format!("it panics: {}", text.unwrap_or_default()));
    }
    if taken > MOST_BYTES {
        return Err(format!("it takes {taken} bytes of memory for {} of input", bytes.len()));
    }
    Ok(())
}
