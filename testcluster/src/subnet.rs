//! Subnets of loopback, one for each cluster on this machine.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;
use crate::layout::{ADVERTISED_PORT, LISTEN_PORT};

/// 127.X.0.0/24.
const SUBNETS: std::ops::RangeInclusive<u8> = 20..=119;

/// Holds a subnet for as long as it lives.
#[derive(Debug)]
pub struct SubnetLock {
    pub subnet: u8,
    _lock: Flock<File>,
}

/// Takes a subnet that no other test cluster has.
pub fn take_subnet() -> Result<SubnetLock, Error> {
    let dir = PathBuf::from(format!("/tmp/.goat-testcluster-subnets-{}", nix::unistd::getuid()));
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    for subnet in SUBNETS {
        let path = dir.join(subnet.to_string());
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(Error::io("open", &path))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        // Another user's, or one that somebody started by hand.
        if !listeners().any(|(ip, port)| {
            (port == ADVERTISED_PORT || port == LISTEN_PORT)
                && (ip.is_unspecified() || ip == Ipv4Addr::new(127, subnet, 0, 1))
        }) {
            return Ok(SubnetLock { subnet, _lock: lock });
        }
    }
    Err(Error::failed("all 100 subnets of test clusters are taken; take some down with `testcluster down`"))
}

/// What is listened on by anybody. Looked up and not tried: a socket that is bound for a moment is inherited by a process
/// that is being started just then, and is still bound when the cluster wants it.
fn listeners() -> impl Iterator<Item = (Ipv4Addr, u16)> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let found: Vec<_> = text.lines().skip(1).filter_map(listener).collect();
    found.into_iter()
}

/// Of a line of /proc/net/tcp: number, local address, remote one, state; in hexadecimal digits, the address as the machine
/// keeps it in memory.
fn listener(line: &str) -> Option<(Ipv4Addr, u16)> {
    const LISTENS: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (ip, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    (state == LISTENS).then_some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = bound.local_addr().expect("it is bound").port();
        assert!(listeners().any(|found| found == (Ipv4Addr::LOCALHOST, port)));
    }

    #[test]
    fn two_clusters_get_two_subnets() {
        let first = take_subnet().expect("a subnet");
        let second = take_subnet().expect("another");
        assert_ne!(first.subnet, second.subnet);
    }
}
