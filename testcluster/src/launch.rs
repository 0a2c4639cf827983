//! How members are started: the command lines of managers and workers, which is all that testcluster knows of them.

use std::path::{Path, PathBuf};

use crate::cluster::Options;
use crate::layout::{Layout, Member};

/// The member's program and its arguments. `binaries`: where the program is.
pub fn command(layout: &Layout, options: &Options, binaries: &Path, member: Member) -> (PathBuf, Vec<String>) {
    let ip = layout.member_ip(member).to_string();
    let data_dir = layout.data_dir(member).display().to_string();
    let mut args = vec!["run".to_owned()];
    let mut add = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    add("name", member.name());
    add("data-dir", data_dir);
    add("bind-source", ip.clone());
    add("log-level", options.log_level.clone());
    add("listen", layout.listen(member).to_string());
    add("advertise", layout.advertised(member).to_string());
    match member {
        Member::Manager(n) => {
            let peers = (1..=layout.managers)
                .map(|peer| format!("{peer}=m{peer}@{}", layout.advertised(Member::Manager(peer))));
            add("id", n.to_string());
            add("peers", peers.collect::<Vec<_>>().join(","));
            args.extend(options.manager_args.iter().cloned());
            (binaries.join("goat-manager"), args)
        }
        Member::Worker(_) => {
            add("address", ip);
            add("managers", layout.addresses().join(","));
            add("runtimes", layout.runtime.word().to_owned());
            add("cpu-millis", options.cpu_millis.to_string());
            add("memory", "8GiB".to_owned());
            if let Some(socket) = layout.docker_socket(member) {
                add("docker-host", socket.display().to_string());
            }
            (binaries.join("goat-worker"), args)
        }
    }
}
