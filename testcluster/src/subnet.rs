//! Subnets of loopback, one for each cluster on this machine, of any user.
//!
//! A subnet is held by a Unix socket with a name in the kernel's abstract namespace. It leaves no file, ends with its process,
//! and is as wide as loopback itself: all users of one network namespace.

use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::error::Error;
use crate::layout::{ADVERTISED_PORT, LISTEN_PORT};

/// 127.X.0.0/24.
const SUBNETS: std::ops::RangeInclusive<u8> = 20..=119;

/// Holds a subnet for as long as it lives.
#[derive(Debug)]
pub struct SubnetLock {
    pub subnet: u8,
    _socket: UnixListener,
}

/// Takes a subnet that no other test cluster has.
pub fn take_subnet() -> Result<SubnetLock, Error> {
    let found = SUBNETS.into_iter().find_map(|subnet| {
        let name = SocketAddr::from_abstract_name(format!("goat-testcluster-subnet-{subnet}")).ok()?;
        let socket = UnixListener::bind_addr(&name).ok()?;
        // What a killed supervisor left, or somebody started by hand.
        let is_used = listeners().any(|(ip, port)| {
            let of_members = port == ADVERTISED_PORT || port == LISTEN_PORT;
            ip.octets()[..2] == [127, subnet] || (of_members && ip.is_unspecified())
        });
        (!is_used).then_some(SubnetLock { subnet, _socket: socket })
    });
    found.ok_or_else(|| {
        Error::failed("all 100 subnets of test clusters are taken; take some down with `testcluster down`")
    })
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
