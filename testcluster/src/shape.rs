//! Shape of a slow link: delay, jitter, loss and bandwidth of one direction, and the transmitter that enforces the bandwidth.
//!
//! Loss is what TCP makes of it. The proxies carry streams, not packets, so a lost packet is a stall of its connection: later
//! bytes wait behind it until the retransmission arrives.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Payload of a packet on Ethernet.
pub const PACKET_BYTES: usize = 1_460;
/// Linux's lowest retransmission timeout.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// Linux's first retransmission of a SYN.
const RETRANSMIT_CONNECT: Duration = Duration::from_secs(1);
/// A transmitter may send this much time's worth of bytes at once. It absorbs the runtime's timer resolution.
const BURST: Duration = Duration::from_millis(5);
const MILLION: u32 = 1_000_000;
/// The slowest link at which TLS handshakes still finish in time.
const MIN_BYTES_PER_S: u64 = 1_000;

/// Shape of one direction of a link. The default passes everything at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// One way.
    pub delay_ms: u64,
    /// The delay of each chunk is drawn from `delay_ms` ± `jitter_ms`, and never below zero.
    pub jitter_ms: u64,
    /// Bandwidth that all connections of this direction share; zero: unlimited.
    pub bytes_per_s: u64,
    /// Packets per million that are lost.
    pub loss_ppm: u32,
}

impl Shape {
    /// A constant delay alone.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..Self::default() }
    }

    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The worse of two shapes, property by property.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rates = [self.bytes_per_s, other.bytes_per_s].into_iter().filter(|rate| *rate > 0);
        Self {
            delay_ms: self.delay_ms.max(other.delay_ms),
            jitter_ms: self.jitter_ms.max(other.jitter_ms),
            bytes_per_s: rates.min().unwrap_or(0),
            loss_ppm: self.loss_ppm.max(other.loss_ppm),
        }
    }

    /// Bytes that are read from a connection at once. Connections of one link take turns after each chunk.
    pub fn chunk_bytes(&self, most: usize) -> usize {
        if self.bytes_per_s == 0 {
            return most;
        }
        let in_burst = self.bytes_per_s.saturating_mul(BURST.as_millis() as u64) / 1_000;
        usize::try_from(in_burst).unwrap_or(most).clamp(PACKET_BYTES.min(most), most)
    }

    /// Draws how long a chunk is under way: the delay with its jitter, and a retransmission if a packet of it is lost.
    pub fn draw(&self, bytes: usize, rng: &mut impl Rng) -> Duration {
        let delay = self.draw_delay(rng);
        let packets = bytes.div_ceil(PACKET_BYTES).max(1);
        let is_lost = (0..packets).any(|_| self.loses(rng));
        if is_lost { delay + RETRANSMIT + 2 * delay } else { delay }
    }

    /// The same for a packet that opens a connection.
    pub fn draw_connect(&self, rng: &mut impl Rng) -> Duration {
        let delay = self.draw_delay(rng);
        if self.loses(rng) { delay + RETRANSMIT_CONNECT } else { delay }
    }

    fn draw_delay(&self, rng: &mut impl Rng) -> Duration {
        let earliest = self.delay_ms.saturating_sub(self.jitter_ms);
        Duration::from_millis(rng.random_range(earliest..=self.delay_ms.saturating_add(self.jitter_ms)))
    }

    fn loses(&self, rng: &mut impl Rng) -> bool {
        self.loss_ppm > 0 && rng.random_range(0..MILLION) < self.loss_ppm
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (self.delay_ms, self.jitter_ms) {
            (0, 0) => {}
            (delay, 0) => parts.push(format!("{delay} ms")),
            (delay, jitter) => parts.push(format!("{delay} ms ± {jitter} ms")),
        }
        if self.bytes_per_s > 0 {
            parts.push(format!("{} kbit/s", self.bytes_per_s * 8 / 1_000));
        }
        if self.loss_ppm > 0 {
            parts.push(format!("{} % loss", f64::from(self.loss_ppm) / 1e4));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Bandwidth as typed: `1mbit`, `500kbit`, `1gbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    pub bytes_per_s: u64,
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("bandwidth {text:?} must be a number with kbit, mbit or gbit, as in 1mbit");
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let bits: u64 = match unit {
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes_per_s = number.checked_mul(bits).ok_or_else(wrong)? / 8;
        if bytes_per_s < MIN_BYTES_PER_S {
            return Err(format!("bandwidth {text:?} must be at least {}kbit", MIN_BYTES_PER_S * 8 / 1_000));
        }
        Ok(Self { bytes_per_s })
    }
}

/// Loss as typed: `1%`, `0.1%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub ppm: u32,
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
        match percent {
            Some(percent) if (0.0..=50.0).contains(&percent) => Ok(Self { ppm: (percent * 1e4).round() as u32 }),
            _ => Err(format!("loss {text:?} must be a percentage from 0% to 50%, as in 1%")),
        }
    }
}

/// Sends the bytes of one direction of a link one after the other, at the link's bandwidth. All connections of the link share
/// one, and wait in the order in which they came.
#[derive(Debug)]
pub struct Transmitter {
    /// When everything sent so far has left.
    free_at: Mutex<Instant>,
}

impl Default for Transmitter {
    fn default() -> Self {
        Self { free_at: Mutex::new(Instant::now()) }
    }
}

impl Transmitter {
    /// Returns when the bytes have left.
    pub async fn send(&self, bytes: usize, bytes_per_s: u64) {
        if bytes_per_s == 0 {
            return;
        }
        let mut free_at = self.free_at.lock().await;
        let now = Instant::now();
        let start = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
        *free_at = start + Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
        if *free_at > now {
            tokio::time::sleep_until(*free_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn shapes_are_typed_and_shown() {
        let Bandwidth { bytes_per_s } = "1mbit".parse().expect("it is a bandwidth");
        let Loss { ppm: loss_ppm } = "0.1%".parse().expect("it is a loss");
        let shape = Shape { delay_ms: 50, jitter_ms: 20, bytes_per_s, loss_ppm };
        assert_eq!(shape.to_string(), "50 ms ± 20 ms, 1000 kbit/s, 0.1 % loss");
        assert_eq!(Shape::delayed(Duration::from_millis(20)).to_string(), "20 ms");
        for wrong in ["1", "mbit", "1mbits", "-1mbit", "1kbit", "99999999999999999gbit"] {
            assert!(wrong.parse::<Bandwidth>().is_err(), "{wrong}");
        }
        for wrong in ["1", "%", "51%", "-1%", "NaN%"] {
            assert!(wrong.parse::<Loss>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn delays_stay_within_the_jitter_and_losses_cost_a_retransmission() {
        let mut rng = StdRng::seed_from_u64(1);
        let shape = Shape { delay_ms: 50, jitter_ms: 20, ..Shape::default() };
        let drawn: Vec<_> = (0..1_000).map(|_| shape.draw(100, &mut rng).as_millis()).collect();
        assert!(drawn.iter().all(|ms| (30..=70).contains(ms)));
        assert!(drawn.contains(&30) && drawn.contains(&70));
        let lossy = Shape { loss_ppm: 10_000, ..Shape::default() };
        let mut stalled = |bytes| (0..10_000).filter(|_| lossy.draw(bytes, &mut rng) >= RETRANSMIT).count();
        assert!((50..200).contains(&stalled(100)));
        // Ten packets are lost more often than one.
        assert!((700..1_300).contains(&stalled(10 * PACKET_BYTES)));
    }

    #[tokio::test]
    async fn connections_of_one_link_share_its_bandwidth() {
        let transmitter = Transmitter::default();
        let began = Instant::now();
        futures::future::join_all((0..10).map(|_| transmitter.send(125, 12_500))).await;
        // 100 ms worth of bytes, less what may leave at once.
        assert!(began.elapsed() >= Duration::from_millis(100) - BURST);
    }
}
