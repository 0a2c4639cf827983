//! The image of echo, made of the static binary that is there; nothing is pulled. Clusters share their daemon's images:
//!
//! | name | meaning |
//! | --- | --- |
//! | `goat-echo:FINGERPRINT` | made of that binary, so that checkouts with different binaries have different images |
//! | `goat-echo:FINGERPRINT-sN` | the cluster with the subnet 127.N.0.0/24 uses it |
//! | `goat-echo:1` | that of the cluster started last, for people |
//!
//! A cluster that ends removes its own name, then the first where no cluster uses the image any more, and the last where no
//! cluster is left. Names are removed and never forced, so an image whose containers are there stays.

use std::collections::HashMap;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bollard::Docker;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures::StreamExt;

use super::pack;
use crate::cluster::Options;
use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::runtime::{RuntimeKind, docker_of};

const REPOSITORY: &str = "goat-echo";
const FOR_PEOPLE: &str = "goat-echo:1";
/// On the image: of which binary it was made.
const LABEL: &str = "io.goat.testcluster.echo";
const HOW_TO_BUILD: &str = "run testcluster/run once, which builds it";

/// The reference of the image. One for the life of this program, even if the binary is built again meanwhile.
pub fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let binary = Options::binaries().ok().and_then(|binaries| static_binary(&binaries));
        let bytes = binary.and_then(|binary| std::fs::read(binary).ok());
        bytes.map_or_else(|| FOR_PEOPLE.to_owned(), |bytes| reference(&fingerprint(&bytes)))
    })
}

fn reference(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}")
}

/// The name that says that the cluster uses the image.
fn used_by(layout: &Layout) -> String {
    format!("{}{}", image(), ending(layout.subnet))
}

fn ending(subnet: u8) -> String {
    format!("-s{subnet}")
}

/// The place of the static binary that testcluster/run builds, seen from the directory of the other binaries (target/debug).
pub fn static_binary(binaries: &Path) -> Option<PathBuf> {
    let targets = std::fs::read_dir(binaries.parent()?.join("static")).ok()?;
    let profile = binaries.file_name()?;
    targets.filter_map(|entry| Some(entry.ok()?.path().join(profile).join("echo"))).find(|path| path.is_file())
}

/// Gives the image to the daemon that all workers of the cluster use, until [`withdraw`].
pub async fn provide(layout: &Layout, binaries: &Path) -> Result<(), Error> {
    if !is_shared(layout) {
        return Ok(());
    }
    let client = docker_of(layout, Member::Worker(1))?;
    ensure_image_at(&client, binaries).await?;
    for name in [used_by(layout), FOR_PEOPLE.to_owned()] {
        tag(&client, image(), &name).await?;
    }
    // A cluster that ended just now may have removed the name before that.
    ensure_image_at(&client, binaries).await
}

/// Whether the workers share one daemon with other users.
fn is_shared(layout: &Layout) -> bool {
    layout.runtime == RuntimeKind::Docker && !layout.has_daemons
}

/// Removes what no cluster uses any more once this one has ended.
pub async fn withdraw(layout: &Layout) -> Result<(), Error> {
    if !is_shared(layout) {
        return Ok(());
    }
    let client = docker_of(layout, Member::Worker(1))?;
    let own = names(&client).await?;
    for name in own.iter().filter(|name| name.ends_with(&ending(layout.subnet))) {
        remove(&client, name).await?;
    }
    let names = names(&client).await?;
    for name in unused(&names) {
        remove(&client, name).await?;
    }
    Ok(())
}

/// The names that no cluster uses, among all of these images.
fn unused(names: &[String]) -> Vec<&String> {
    let user = |name: &str| name.rsplit_once("-s").is_some_and(|(_, subnet)| subnet.parse::<u8>().is_ok());
    let is_used = |name: &str| match name {
        FOR_PEOPLE => names.iter().any(|other| user(other)),
        _ => names.iter().any(|other| user(other) && other.starts_with(&format!("{name}-s"))),
    };
    names.iter().filter(|name| !user(name) && !is_used(name)).collect()
}

/// All names of images that this program made, of whatever binary.
async fn names(client: &Docker) -> Result<Vec<String>, Error> {
    let filters = HashMap::from([("label", vec![LABEL.to_owned()])]);
    let options = query::ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = client.list_images(Some(options)).await.map_err(Error::docker("list images"))?;
    let names = images.into_iter().flat_map(|image| image.repo_tags);
    Ok(names.filter(|name| name.starts_with(&reference(""))).collect())
}

async fn tag(client: &Docker, image: &str, name: &str) -> Result<(), Error> {
    let (repository, tag) = name.split_once(':').expect("names of images here have a tag");
    let options = query::TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    client.tag_image(image, Some(options)).await.map_err(Error::docker("tag the image of echo"))
}

/// Removes a name, and the image where it was the last one. Where containers still use it, it stays.
async fn remove(client: &Docker, name: &str) -> Result<(), Error> {
    match client.remove_image(name, None::<query::RemoveImageOptions>, None).await {
        Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        Err(error) => Err(Error::docker("remove the image of echo")(error)),
    }
}

/// Makes sure that the image is at a daemon.
pub async fn ensure_image_at(client: &Docker, binaries: &Path) -> Result<(), Error> {
    match client.inspect_image(image()).await {
        Ok(_) => return Ok(()),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => return Err(Error::docker("look for the image of echo")(error)),
    }
    let Some(binary) = static_binary(binaries) else {
        return Err(Error::failed(format!(
            "the image {} needs a static echo; {HOW_TO_BUILD}, or use --runtime process",
            image()
        )));
    };
    let bytes = std::fs::read(&binary).map_err(Error::io("read", &binary))?;
    let fingerprint = fingerprint(&bytes);
    let dockerfile = format!("FROM scratch\nLABEL {LABEL}={fingerprint}\nCOPY echo /echo\nENTRYPOINT [\"/echo\"]\n");
    let files = [("Dockerfile", 0o644, dockerfile.as_bytes()), ("echo", 0o755, &bytes[..])];
    build(client, image(), pack(&files).map_err(Error::io("pack", &binary))?).await
}

/// Builds an image of a context that [`pack`] made.
pub async fn build(client: &Docker, reference: &str, context: Vec<u8>) -> Result<(), Error> {
    let options = query::BuildImageOptionsBuilder::default().t(reference).rm(true).forcerm(true).build();
    let mut progress = client.build_image(options, None, Some(bollard::body_full(Bytes::from(context))));
    while let Some(step) = progress.next().await {
        let step = step.map_err(Error::docker("build an image"))?;
        if let Some(problem) = step.error_detail.and_then(|detail| detail.message) {
            return Err(Error::failed(format!("docker cannot build the image {reference}: {problem}")));
        }
    }
    Ok(())
}

/// Changes whenever the binary does.
fn fingerprint(binary: &[u8]) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(binary);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_as_long_as_a_cluster_uses_it() {
        let names = |names: &[&str]| names.iter().map(|name| reference(name)).collect::<Vec<_>>();
        let kept = names(&["aa", "aa-s20", "bb", "1"]);
        assert_eq!(unused(&kept), [&reference("bb")]);
        let last = names(&["aa", "1"]);
        assert_eq!(unused(&last), [&reference("aa"), &reference("1")]);
        let two = names(&["aa", "aa-s20", "bb", "bb-s21", "1"]);
        assert!(unused(&two).is_empty());
    }
}
