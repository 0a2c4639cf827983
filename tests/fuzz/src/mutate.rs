//! Makes new bytes of samples: small damage, wrong lengths, pieces of others. Deterministic in its seed.

use goat_core::scheduler::mix;

const MAX_BYTES: usize = 64 << 10;
/// Numbers at which decoders go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

#[derive(Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed) }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.state) % end.max(1) as u64) as usize
    }

    /// One of the samples, hurt a few times.
    pub fn next(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        if samples.is_empty() || self.below(50) == 0 {
            let length = self.below(200);
            return (0..length).map(|_| self.below(256) as u8).collect();
        }
        let at = self.below(samples.len());
        let mut bytes = samples[at].clone();
        for _ in 0..=self.below(6) {
            self.hurt(&mut bytes, samples);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    fn hurt(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 => bytes.insert(at, self.below(256) as u8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => {
                // A piece again: repeated fields, nested values.
                let end = (at + 1 + self.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => {
                let edge = EDGES[self.below(EDGES.len())];
                let width = [1, 2, 4, 8][self.below(4)];
                let little = self.below(2) == 0;
                for step in 0..width {
                    let shift = 8 * if little { step } else { width - 1 - step };
                    if let Some(byte) = bytes.get_mut(at + step) {
                        *byte = (edge >> shift) as u8;
                    }
                }
            }
            7 => {
                let other = &samples[self.below(samples.len())];
                let from = self.below(other.len() + 1);
                let end = (from + 1 + self.below(128)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let end = (at + self.below(32)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}
