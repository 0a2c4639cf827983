//! The command lines of `testcluster link` and `testcluster slow-disk`.

use std::time::Duration;

use clap::Args;
use goat_testcluster::shape::{Bandwidth, Loss, Shape};

/// Links between all members of the first group and all of the second are shaped alike. Each link has a bandwidth of its own in
/// each direction, which all its connections share. Without options the links become fast again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  testcluster link managers managers --delay 50ms --jitter 20ms\n  \
                        testcluster link m1 m2 --rate 1mbit --loss 1%\n  testcluster link workers managers --delay 100ms\n  \
                        testcluster link m1 m2                             # fast again")]
pub struct LinkArgs {
    /// m1, w1, ..., several separated by commas, or: managers, workers, leader, follower, worker, client
    pub from: String,
    /// As FROM
    pub to: String,
    /// One way, as in 50ms; the round trip takes twice as long
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    pub delay: Duration,
    /// Each chunk takes --delay plus or minus up to this long; the order is kept
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    pub jitter: Duration,
    /// Bandwidth of each direction, as in 1mbit, 500kbit [default: unlimited]
    #[arg(long)]
    pub rate: Option<Bandwidth>,
    /// Packets that are lost, as in 1%; to TCP each is a stall until it is sent again [default: none]
    #[arg(long)]
    pub loss: Option<Loss>,
    /// Only what goes from FROM to TO
    #[arg(long)]
    pub one_way: bool,
}

impl LinkArgs {
    pub fn shape(&self) -> Shape {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Shape {
            delay_ms: ms(self.delay),
            jitter_ms: ms(self.jitter),
            bytes_per_s: self.rate.map_or(0, |rate| rate.bytes_per_s),
            loss_ppm: self.loss.map_or(0, |loss| loss.ppm),
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  testcluster slow-disk managers 50ms\n  testcluster slow-disk m1 0ms    # fast again"
)]
pub struct SlowDiskArgs {
    /// m1, ..., several separated by commas, or: managers, leader, follower
    pub managers: String,
    /// How much longer each fsync takes, as in 90ms; 0ms ends it
    #[arg(value_parser = humantime::parse_duration)]
    pub delay: Duration,
}
