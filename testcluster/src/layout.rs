//! Where a cluster is: its directory, its addresses, its ports. Knows no processes.
//!
//! | path in the directory | what |
//! | --- | --- |
//! | `lock` | held by the supervisor while the cluster runs |
//! | `cluster.json` | this layout |
//! | `processes.json` | what was started (`ledger`) |
//! | `control.sock` | the supervisor's control socket (`control`) |
//! | `m1/ w1/ ...` | data directories |
//! | `m1.img ...` | file systems for the managers' data, where their power is to be cut |
//! | `disks/m1 ...` | how much slower the managers' disks are (`slow_disk`) |
//! | `d1/ ...` | the workers' own Docker daemons, where they have them |
//! | `client.pem` | credentials of a user, for goatctl and this program |
//! | `logs/m1.log ...` | output |
//!
//! Each cluster has a subnet 127.X.0.0/24 of its own. Manager n listens on 127.X.0.n:7800 and advertises
//! 127.X.0.n:7700, where its link (`links`) listens; worker n is 127.X.0.(10+n), with the ports 7801 and 7701.
//! Health and metrics of each are on port 7790.
//! Connections leave from these addresses too, so that a link knows who is calling.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::runtime::RuntimeKind;

pub const ADVERTISED_PORT: u16 = 7700;
pub const LISTEN_PORT: u16 = 7800;
const WORKER_ADVERTISED_PORT: u16 = 7701;
const WORKER_LISTEN_PORT: u16 = 7801;
/// Of every member, on its own address: not through a link, so that a cut does not hide it.
const HTTP_PORT: u16 = 7790;
/// In the cluster's directory.
pub const CREDENTIALS: &str = "client.pem";
pub const MAX_MANAGERS: u8 = 9;
pub const MAX_WORKERS: u8 = 100;

/// A cluster on paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub dir: PathBuf,
    pub subnet: u8,
    /// Spare ones included.
    pub managers: u8,
    /// So many of the managers, the last ones, do not run until they join.
    #[serde(default)]
    pub spares: u8,
    pub workers: u8,
    pub runtime: RuntimeKind,
    /// Where echo answers; None without echo.
    pub front: Option<SocketAddr>,
    /// Without links: managers listen where they are reached.
    #[serde(default)]
    pub is_direct: bool,
    /// Each worker has a Docker daemon of its own.
    #[serde(default)]
    pub has_daemons: bool,
    /// The Unix socket of the daemon that all workers use otherwise.
    #[serde(default)]
    pub docker_host: Option<PathBuf>,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    Manager(u8),
    Worker(u8),
}

impl Member {
    pub fn name(self) -> String {
        match self {
            Self::Manager(n) => format!("m{n}"),
            Self::Worker(n) => format!("w{n}"),
        }
    }
}

/// What can be started and killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Member(Member),
    /// The Docker daemon of that worker.
    Daemon(u8),
}

impl Part {
    pub fn name(self) -> String {
        match self {
            Self::Member(member) => member.name(),
            Self::Daemon(n) => format!("d{n}"),
        }
    }

    pub const fn member(self) -> Option<Member> {
        match self {
            Self::Member(member) => Some(member),
            Self::Daemon(_) => None,
        }
    }
}

/// Where a cluster is when nobody says otherwise.
pub fn default_dir() -> PathBuf {
    PathBuf::from(format!("/tmp/goat-testcluster-{}", nix::unistd::getuid()))
}

/// The directory of the cluster with this tag.
pub fn tagged_dir(tag: &str) -> PathBuf {
    PathBuf::from(format!("{}-{tag}", default_dir().display()))
}

impl Layout {
    /// Where managers save the state, where they are told to.
    pub fn backups(&self) -> PathBuf {
        self.dir.join("backups")
    }

    pub fn member_ip(&self, member: Member) -> Ipv4Addr {
        let last = match member {
            Member::Manager(n) => n,
            Member::Worker(n) => 10 + n,
        };
        Ipv4Addr::new(127, self.subnet, 0, last)
    }

    /// Where everybody reaches a member: its link.
    pub fn advertised(&self, member: Member) -> SocketAddr {
        let port = match member {
            Member::Manager(_) => ADVERTISED_PORT,
            Member::Worker(_) => WORKER_ADVERTISED_PORT,
        };
        (self.member_ip(member), port).into()
    }

    /// Where the member itself listens.
    pub fn listen(&self, member: Member) -> SocketAddr {
        let port = match member {
            _ if self.is_direct => return self.advertised(member),
            Member::Manager(_) => LISTEN_PORT,
            Member::Worker(_) => WORKER_LISTEN_PORT,
        };
        (self.member_ip(member), port).into()
    }

    /// Where the member shows its health and metrics.
    pub fn http(&self, member: Member) -> SocketAddr {
        (self.member_ip(member), HTTP_PORT).into()
    }

    pub fn members(&self) -> impl Iterator<Item = Member> + Clone + use<> {
        (1..=self.managers).map(Member::Manager).chain((1..=self.workers).map(Member::Worker))
    }

    /// The managers that the cluster begins with.
    pub fn first_managers(&self) -> impl Iterator<Item = Member> + use<> {
        (1..=self.managers - self.spares).map(Member::Manager)
    }

    /// All managers' advertised addresses, in order.
    pub fn addresses(&self) -> Vec<String> {
        (1..=self.managers).map(|n| self.advertised(Member::Manager(n)).to_string()).collect()
    }

    /// The member of that name; the error names those that there are.
    pub fn find(&self, name: &str) -> Result<Member, Error> {
        self.members().find(|member| member.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.members().map(Member::name).collect();
            Error::usage(format!("there is no {name:?} in this cluster; its members are {}", names.join(", ")))
        })
    }

    /// Whose connections leave from that address; `client` for everybody outside.
    pub fn name_of(&self, ip: IpAddr) -> String {
        let found = self.members().find(|member| IpAddr::V4(self.member_ip(*member)) == ip);
        found.map_or_else(|| CLIENT.to_owned(), Member::name)
    }

    /// A user's, made with the cluster.
    pub fn credentials(&self) -> PathBuf {
        self.dir.join(CREDENTIALS)
    }

    pub fn data_dir(&self, member: Member) -> PathBuf {
        self.dir.join(member.name())
    }

    /// The address of the Docker daemon that the worker uses; `None` without Docker.
    pub fn docker_socket(&self, worker: Member) -> Option<PathBuf> {
        let Member::Worker(n) = worker else { return None };
        if self.has_daemons { Some(self.daemon_dir(n).join("docker.sock")) } else { self.docker_host.clone() }
    }

    /// Everything of the Docker daemon of worker n.
    pub fn daemon_dir(&self, n: u8) -> PathBuf {
        self.dir.join(format!("d{n}"))
    }

    /// Everything that runs: members, and their daemons.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let daemons = if self.has_daemons { self.workers } else { 0 };
        (1..=daemons).map(Part::Daemon).chain(self.members().map(Part::Member))
    }

    /// The part of that name; the error names those that there are.
    pub fn part(&self, name: &str) -> Result<Part, Error> {
        self.parts().find(|part| part.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.parts().map(Part::name).collect();
            Error::usage(format!("there is no {name:?} in this cluster; its members are {}", names.join(", ")))
        })
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.dir)
    }

    /// Writes `cluster.json`.
    pub fn save(&self) -> Result<(), Error> {
        let path = self.dir.join("cluster.json");
        let text = serde_json::to_vec_pretty(self).expect("it is plain data");
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    }

    /// Reads `cluster.json`; None where there is none.
    pub fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join("cluster.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::failed(format!(
                    "{} is damaged ({error}); remove the directory {}",
                    path.display(),
                    dir.display()
                ))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }
}

/// The name of connections that come from none of the members.
pub const CLIENT: &str = "client";

pub fn control_socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_an_address_of_its_own_and_is_known_by_it() {
        let layout = Layout {
            dir: "/tmp/x".into(),
            subnet: 33,
            managers: MAX_MANAGERS,
            spares: 0,
            workers: MAX_WORKERS,
            runtime: RuntimeKind::Process,
            front: None,
            is_direct: false,
            has_daemons: false,
            docker_host: None,
        };
        for member in layout.members() {
            assert_eq!(layout.name_of(layout.member_ip(member).into()), member.name());
            assert_eq!(layout.find(&member.name()).expect("it is there"), member);
        }
        assert_eq!(layout.name_of(Ipv4Addr::LOCALHOST.into()), CLIENT);
        assert!(layout.find("m10").expect_err("there are nine").to_string().contains("its members are m1, m2"));
    }
}
