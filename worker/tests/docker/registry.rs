//! A registry of the test's own, on a free port of its daemon's loopback, with its storage in a directory of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::daemon::Daemon;

/// Who may pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Everybody,
    /// Those with a password, which nobody has.
    Nobody,
}

pub struct Registry {
    _dir: tempfile::TempDir,
    address: String,
    child: Child,
}

impl Registry {
    pub fn start(daemon: &Daemon, access: Access) -> Self {
        let dir = tempfile::Builder::new().prefix("goat-registry-").tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            path("storage")
        );
        if access == Access::Nobody {
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd")));
        }
        std::fs::write(path("config.yml"), config).expect("written");
        let mut child = daemon
            .inside("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry can be started");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let listening = lines.find_map(|line| line.ok()?.split_once("listening on ").map(|(_, rest)| rest.to_owned()));
        let listening = listening.expect("the registry says where it listens");
        let address = listening.split(['"', ' ', ',']).next().expect("an address").to_owned();
        // Its log has to go somewhere, else it would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { _dir: dir, address, child }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// An image's reference here.
    pub fn image(&self, name_and_tag: &str) -> String {
        format!("{}/{name_and_tag}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
