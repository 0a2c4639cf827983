//! The example service: its spec for either runtime, and its image.

mod image;

use std::path::Path;

use goat_proto::v1;

use crate::runtime::RuntimeKind;

pub use image::{build, ensure_image_at, image, provide, static_binary, withdraw};

pub const SERVICE: &str = "echo";
/// On each worker's own address, and inside containers.
pub const PORT: u16 = 8080;

/// A service of `replicas` echoes that publish no port: as many as wanted fit on a node.
pub fn spec(name: &str, runtime: RuntimeKind, replicas: u32, program: &Path) -> v1::ServiceSpec {
    let (image, command) = match runtime {
        RuntimeKind::Docker => (image().to_owned(), Vec::new()),
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
