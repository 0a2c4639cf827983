//! Which cluster is meant, and who asks: from flags and the environment, or from a context that was kept.
//!
//! | file in `~/.config/goat` (or `$GOAT_CONFIG_DIR`) | what |
//! | --- | --- |
//! | `contexts.toml` | name, addresses and credentials of each cluster, and which one is meant |
//! | `NAME.pem` | the credentials (mode 0600) |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goat_tls::{Credentials, Transport};
use serde::{Deserialize, Serialize};

use crate::address::Addresses;
use crate::cli::Globals;
use crate::exit::Failure;

const FILE: &str = "contexts.toml";

/// One cluster, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// HOST:PORT of managers.
    pub addresses: Vec<String>,
    /// None: the cluster is unencrypted.
    pub credentials: Option<PathBuf>,
}

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contexts {
    pub current: Option<String>,
    pub contexts: BTreeMap<String, Kept>,
}

/// The way to a cluster's managers.
#[derive(Debug)]
pub struct Way {
    pub addresses: Addresses,
    pub transport: Transport,
    /// Where the credentials came from.
    pub credentials: Option<PathBuf>,
}

/// Where contexts are kept.
pub fn dir() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("GOAT_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").map(|dir| dir.join("goat")))
        .or_else(|| set("HOME").map(|dir| dir.join(".config").join("goat")))
        .ok_or_else(|| Failure::usage("there is no home directory to keep contexts in; set GOAT_CONFIG_DIR"))
}

impl Contexts {
    /// Empty where there is no file.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
        };
        toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{}: {error}", path.display())).with_hint("mend the file, or remove it")
        })
    }

    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let text = toml::to_string(self).map_err(|error| Failure::failed(error.to_string()))?;
        goat_tls::credentials::write_secret(&path, text.as_bytes()).map_err(failed)
    }

    /// The context of that name; the failure names those that there are.
    pub fn find(&self, name: &str) -> Result<&Kept, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => "there is none yet; `goatctl context add` keeps one".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            Failure::usage(format!("no context {name:?}")).with_hint(hint)
        })
    }
}

/// The cluster that is meant: flags and environment first, then the context that they name, then the current one.
pub fn resolve(globals: &Globals) -> Result<Way, Failure> {
    let is_told = globals.plaintext || globals.credentials.is_some();
    let kept = match (&globals.context, is_told) {
        (Some(name), _) => Some(Contexts::read(&dir()?)?.find(name)?.clone()),
        (None, true) => None,
        (None, false) => {
            let contexts = Contexts::read(&dir()?)?;
            contexts.current.as_deref().map(|name| contexts.find(name).cloned()).transpose()?
        }
    };
    let addresses = match (&globals.address, &kept) {
        (Some(addresses), _) => addresses.clone(),
        (None, Some(kept)) => parse(&kept.addresses.join(","))?,
        (None, None) => parse("")?,
    };
    let credentials = globals.credentials.clone().or_else(|| kept.as_ref().and_then(|kept| kept.credentials.clone()));
    let is_plaintext =
        globals.plaintext || (globals.credentials.is_none() && kept.is_some_and(|kept| kept.credentials.is_none()));
    let transport = match (&credentials, is_plaintext) {
        (_, true) => {
            refuse_remote(&addresses)?;
            Transport::plaintext()
        }
        (Some(path), false) => Transport::new(load(path)?).map_err(|error| Failure::usage(error.to_string()))?,
        (None, false) => return Err(nothing_to_show()),
    };
    Ok(Way { addresses, transport, credentials: credentials.filter(|_| !is_plaintext) })
}

fn parse(text: &str) -> Result<Addresses, Failure> {
    text.parse().map_err(Failure::usage)
}

/// Reads a file of credentials.
pub fn load(path: &Path) -> Result<Credentials, Failure> {
    match Credentials::load(path) {
        Ok(Some(credentials)) => Ok(credentials),
        Ok(None) => Err(Failure::usage(format!("the credentials {} are not there", path.display()))
            .with_hint("`goat-manager init` writes the first user's; `goatctl cluster issue-client` makes others")),
        Err(error) => Err(Failure::usage(error.to_string())),
    }
}

fn nothing_to_show() -> Failure {
    Failure::usage("there is nothing to show who asks").with_hint(
        "give --credentials FILE (GOAT_CREDENTIALS), which `goat-manager init` wrote; or keep them with `goatctl context add`; or, \
         where the cluster was made with --plaintext, give that",
    )
}

/// Without encryption nobody else's network is to be trusted.
fn refuse_remote(addresses: &Addresses) -> Result<(), Failure> {
    match addresses.0.iter().find(|address| !address.is_loopback()) {
        Some(address) => Err(Failure::usage(format!("--plaintext: {address} is not on this machine's loopback"))),
        None => Ok(()),
    }
}
