//! `context`: clusters kept by name. Asks no manager, but for `renew`.

use std::path::{Path, PathBuf};

use goat_proto::v1::RenewRequest;
use goat_tls::credentials::Request;
use serde_json::json;

use super::Context;
use crate::address::Addresses;
use crate::cli::ContextCommand;
use crate::context::{self, Contexts, Kept};
use crate::exit::{Failure, say};
use crate::expiry;
use crate::output::{Out, local_time, rfc3339};

pub fn run(command: ContextCommand, address: Option<Addresses>, plaintext: bool, out: &Out) -> Result<(), Failure> {
    let dir = context::dir()?;
    let mut contexts = Contexts::read(&dir)?;
    match command {
        ContextCommand::Add { name, file } => {
            let kept = keep(&dir, &name, file, address, plaintext)?;
            contexts.contexts.insert(name.clone(), kept);
            contexts.current = Some(name.clone());
            contexts.write(&dir)?;
            out.line(format_args!("{name}  is kept, and meant from now on"))
        }
        ContextCommand::Use { name } => {
            contexts.find(&name)?;
            contexts.current = Some(name.clone());
            contexts.write(&dir)?;
            out.line(format_args!("{name}  is meant from now on"))
        }
        ContextCommand::Rm { name } => {
            let kept = contexts.find(&name)?.clone();
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.write(&dir)?;
            if let Some(path) = kept.credentials.filter(|path| path.starts_with(&dir)) {
                let _ = std::fs::remove_file(path);
            }
            out.line(format_args!("{name}  is forgotten"))
        }
        ContextCommand::Ls => list(&contexts, out),
        ContextCommand::Renew => Err(Failure::failed("this asks a manager")),
    }
}

/// With a copy of the credentials: the file may be on a medium that is taken away.
fn keep(
    dir: &Path,
    name: &str,
    file: Option<PathBuf>,
    address: Option<Addresses>,
    plaintext: bool,
) -> Result<Kept, Failure> {
    check_name(name)?;
    let credentials = match (file, plaintext) {
        (Some(file), false) => {
            let own = dir.join(format!("{name}.pem"));
            let credentials = context::load(&file)?;
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::failed(format!("cannot make {}: {error}", dir.display())))?;
            credentials.store(&own).map_err(|error| Failure::failed(error.to_string()))?;
            Some(own)
        }
        (None, true) => None,
        _ => return Err(Failure::usage("give either the file of the credentials, or --plaintext")),
    };
    let addresses = match address {
        Some(addresses) => addresses,
        None => "".parse().map_err(Failure::usage)?,
    };
    Ok(Kept { addresses: addresses.0.iter().map(ToString::to_string).collect(), credentials })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_fine = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_fine {
        return Ok(());
    }
    Err(Failure::usage(format!("{name:?} is no name for a context: letters, digits, - _ and . are")))
}

fn list(contexts: &Contexts, out: &Out) -> Result<(), Failure> {
    let is_current = |name: &String| contexts.current.as_ref() == Some(name);
    if out.is_json() {
        let rows = contexts.contexts.iter().map(|(name, kept)| {
            json!({
                "name": name, "current": is_current(name), "addresses": kept.addresses,
                "credentials": kept.credentials, "expires_at": expires_s(kept).and_then(|at_s| rfc3339(at_s * 1_000)),
            })
        });
        return out.json(&rows.collect::<Vec<_>>());
    }
    let row = |(name, kept): (&String, &Kept)| {
        let file = kept.credentials.as_ref().map_or_else(|| "(plaintext)".into(), |path| path.display().to_string());
        let expires = expires_s(kept).map_or_else(|| "-".into(), |at_s| local_time(at_s * 1_000));
        let current = if is_current(name) { "*".into() } else { String::new() };
        vec![name.clone(), current, kept.addresses.join(","), expires, file]
    };
    out.table(&["NAME", "MEANT", "ADDRESSES", "EXPIRES", "CREDENTIALS"], contexts.contexts.iter().map(row).collect())?;
    for path in contexts.contexts.values().filter_map(|kept| kept.credentials.as_ref()) {
        let warning =
            context::load(path).ok().and_then(|own| expiry::warning(own.valid().1, &path.display().to_string()));
        warning.iter().for_each(|warning| say(warning));
    }
    Ok(())
}

/// When the certificate of a kept cluster ends (Unix seconds); `None` in plaintext, or if the file cannot be read.
fn expires_s(kept: &Kept) -> Option<u64> {
    Some(context::load(kept.credentials.as_ref()?).ok()?.valid().1)
}

/// A new certificate in the same file.
pub async fn renew(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let Some(file) = file else { return Err(Failure::usage("in plaintext there is nothing to renew")) };
    let until = renewed(context, &file).await?;
    context.out.line(format_args!("{}  renewed, valid until {}", file.display(), local_time(until * 1_000)))
}

/// Until when the new one is valid (Unix seconds).
pub async fn renewed(context: &Context, file: &Path) -> Result<u64, Failure> {
    let failed = |error: goat_tls::Error| Failure::failed(error.to_string());
    let own = Request::new().map_err(failed)?;
    let request = RenewRequest { certificate_request: own.as_bytes().to_vec().into() };
    let reply = context.client.identity(request, async |identity, request| identity.renew(request).await).await?;
    let credentials = own.answered(&reply.certificate, &reply.authorities).map_err(failed)?;
    credentials.store(file).map_err(failed)?;
    Ok(credentials.valid().1)
}
