//! How members are started: the command lines of managers and workers, which is all that testcluster knows of them.

use std::path::{Path, PathBuf};

use crate::cluster::Options;
use crate::layout::{Layout, Member};

/// What makes a cluster in the first manager's directory.
pub fn init(layout: &Layout, binaries: &Path, member: Member) -> (PathBuf, Vec<String>) {
    let mut args = vec!["init".to_owned()];
    args.extend(place(layout, member));
    args.extend(["--client".to_owned(), layout.credentials().display().to_string()]);
    (binaries.join("goat-manager"), args)
}

/// What makes the cluster again out of a saved file, in that manager's directory.
pub fn restore(layout: &Layout, binaries: &Path, member: Member, file: &Path) -> (PathBuf, Vec<String>) {
    let (program, mut args) = init(layout, binaries, member);
    args.extend(["--from-snapshot".to_owned(), file.display().to_string()]);
    (program, args)
}

/// What makes another member join.
pub fn join(layout: &Layout, binaries: &Path, member: Member) -> (PathBuf, Vec<String>) {
    let mut args = vec!["join".to_owned(), "--bind-source".to_owned(), layout.member_ip(member).to_string()];
    let program = match member {
        Member::Manager(_) => {
            args.extend(place(layout, member));
            "goat-manager"
        }
        Member::Worker(_) => {
            args.extend(["--data-dir".to_owned(), layout.data_dir(member).display().to_string()]);
            "goat-worker"
        }
    };
    let own = layout.advertised(member).to_string();
    args.extend(layout.addresses().into_iter().filter(|address| *address != own));
    (binaries.join(program), args)
}

/// What makes a group of that manager alone.
pub fn recover(layout: &Layout, binaries: &Path, member: Member) -> (PathBuf, Vec<String>) {
    let dir = layout.data_dir(member).display().to_string();
    let args = ["recover", "--force-new-cluster", "--yes", "--data-dir", &dir].map(str::to_owned);
    (binaries.join("goat-manager"), args.into())
}

fn place(layout: &Layout, member: Member) -> Vec<String> {
    let options = [
        ("--name", member.name()),
        ("--data-dir", layout.data_dir(member).display().to_string()),
        ("--advertise", layout.advertised(member).to_string()),
    ];
    options.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// The member's program and its arguments. `binaries`: where the program is.
pub fn command(layout: &Layout, options: &Options, binaries: &Path, member: Member) -> (PathBuf, Vec<String>) {
    let ip = layout.member_ip(member).to_string();
    let data_dir = layout.data_dir(member).display().to_string();
    let mut args = vec!["run".to_owned()];
    let mut add = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    add("data-dir", data_dir);
    add("bind-source", ip.clone());
    add("log-level", options.log_level.clone());
    add("listen", layout.listen(member).to_string());
    add("http-listen", layout.http(member).to_string());
    if let Some(endpoint) = &options.otlp_endpoint {
        add("otlp-endpoint", endpoint.clone());
    }
    match member {
        Member::Manager(_) => {
            if options.is_backed_up {
                let dir = layout.backups().display().to_string();
                args.extend(["--backup-dir", &dir, "--backup-every", "1s", "--backup-keep", "5"].map(str::to_owned));
            }
            args.extend(options.manager_args.iter().cloned());
            (binaries.join("goat-manager"), args)
        }
        Member::Worker(_) => {
            add("name", member.name());
            add("advertise", layout.advertised(member).to_string());
            add("address", ip);
            // Of spare ones they hear when those have joined.
            let managers = layout.first_managers().map(|member| layout.advertised(member).to_string());
            add("managers", managers.collect::<Vec<_>>().join(","));
            add("runtimes", layout.runtime.word().to_owned());
            add("cpu-millis", options.cpu_millis.to_string());
            add("memory", "8GiB".to_owned());
            options.max_tasks.into_iter().for_each(|max_tasks| add("max-tasks", max_tasks.to_string()));
            if let Some(socket) = layout.docker_socket(member) {
                add("docker-host", socket.display().to_string());
            }
            (binaries.join("goat-worker"), args)
        }
    }
}
