//! The example service: its spec for either runtime, and its image.

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures::StreamExt;
use goat_proto::v1;

use crate::error::Error;
use crate::runtime::{RuntimeKind, docker};

pub const IMAGE: &str = "goat-echo:1";
pub const SERVICE: &str = "echo";
/// On each worker's own address, and inside containers.
pub const PORT: u16 = 8080;
/// On the image: of which binary it was made.
const LABEL: &str = "io.goat.testcluster.echo";
const HOW_TO_BUILD: &str = "run testcluster/run once, which builds it";

/// A service of `replicas` echoes that publish no port: as many as wanted fit on a node.
pub fn spec(name: &str, runtime: RuntimeKind, replicas: u32, program: &Path) -> v1::ServiceSpec {
    let (image, command) = match runtime {
        RuntimeKind::Docker => (IMAGE.to_owned(), Vec::new()),
        RuntimeKind::Process => (String::new(), vec![program.display().to_string()]),
    };
    v1::ServiceSpec {
        name: name.to_owned(),
        driver: runtime.word().to_owned(),
        image,
        command,
        replicas,
        stop_grace_ms: Some(2_000),
        ..Default::default()
    }
}

/// [`spec`] with a port on the worker's address.
pub fn published(name: &str, runtime: RuntimeKind, replicas: u32, program: &Path) -> v1::ServiceSpec {
    let port = v1::Port { host_port: PORT.into(), container_port: PORT.into(), protocol: "tcp".into() };
    v1::ServiceSpec { ports: vec![port], ..spec(name, runtime, replicas, program) }
}

/// Where testcluster/run puts the static binary, seen from the directory of the other binaries (target/debug).
pub fn static_binary(binaries: &Path) -> Option<PathBuf> {
    let targets = std::fs::read_dir(binaries.parent()?.join("static")).ok()?;
    let profile = binaries.file_name()?;
    targets.filter_map(|entry| Some(entry.ok()?.path().join(profile).join("echo"))).find(|path| path.is_file())
}

/// Makes sure that the image is there and made of the binary that is there. Pulls nothing.
pub async fn ensure_image(binaries: &Path) -> Result<(), Error> {
    ensure_image_at(&docker()?, binaries).await
}

/// The same at another daemon.
pub async fn ensure_image_at(client: &Docker, binaries: &Path) -> Result<(), Error> {
    let present = match client.inspect_image(IMAGE).await {
        Ok(image) => Some(image),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => None,
        Err(error) => return Err(Error::docker("look for the image of echo")(error)),
    };
    let Some(binary) = static_binary(binaries) else {
        return match present {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!(
                "the image {IMAGE} needs a static echo; {HOW_TO_BUILD}, or use --runtime process"
            ))),
        };
    };
    let bytes = std::fs::read(&binary).map_err(Error::io("read", &binary))?;
    let fingerprint = fingerprint(&bytes);
    let labels = present.as_ref().and_then(|image| image.config.as_ref()?.labels.as_ref());
    if labels.and_then(|labels| labels.get(LABEL)) == Some(&fingerprint) {
        return Ok(());
    }
    let dockerfile = format!("FROM scratch\nLABEL {LABEL}={fingerprint}\nCOPY echo /echo\nENTRYPOINT [\"/echo\"]\n");
    let files = [("Dockerfile", 0o644, dockerfile.as_bytes()), ("echo", 0o755, &bytes[..])];
    build(client, IMAGE, pack(&files).map_err(Error::io("pack", &binary))?).await?;
    if let Some(old) = present.and_then(|image| image.id) {
        // Nameless by now. Where containers still use it, it stays.
        let _ = client.remove_image(&old, None::<query::RemoveImageOptions>, None).await;
    }
    Ok(())
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

/// A tar of files with their modes: what an image is built of.
pub fn pack(files: &[(&str, u32, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, name, *bytes)?;
    }
    tar.into_inner()
}
