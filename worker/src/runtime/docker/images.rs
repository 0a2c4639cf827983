//! Images: which are present, and fetching those that are not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bollard::Docker;
use bollard::query_parameters as query;
use futures::StreamExt;
use goat_core::model::ImageInfo;
use parking_lot::Mutex;

use super::super::Error;
use super::calls::{self, within};
use super::error::Fault;

/// More than so many are not told: schedulers need those that are used, and the message has a limit.
const MAX_IMAGES: usize = 500;

/// At most one pull of an image at a time: tasks that need the same wait for the first and share its result.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    running: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Pulls {
    /// Fetches the image; on return it is present.
    pub(super) async fn pull(&self, client: &Docker, image: &str) -> Result<(), Error> {
        let turn = self.running.lock().entry(image.to_owned()).or_default().clone();
        let guard = turn.lock().await;
        // Somebody else may have fetched it while this one waited.
        let is_present = within(calls::INSPECT, client.inspect_image(image)).await.is_ok();
        let result = if is_present { Ok(()) } else { pull(client, image).await };
        drop(guard);
        let mut running = self.running.lock();
        if Arc::strong_count(&turn) == 2 {
            running.remove(image);
        }
        result
    }
}

async fn pull(client: &Docker, image: &str) -> Result<(), Error> {
    let deadline = Instant::now() + calls::PULL;
    let (name, tag) = split(image);
    let options = query::CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
    let mut progress = client.create_image(Some(options), None, None).boxed();
    loop {
        match tokio::time::timeout(calls::PULL_STALL, progress.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(_))) if Instant::now() < deadline => {}
            Ok(Some(Err(error))) => return Err(Fault::from(error).on_pull()),
            Ok(Some(Ok(_))) => return Err(stalled("it took too long")),
            Err(_) => return Err(stalled("it made no progress")),
        }
    }
}

fn stalled(problem: &str) -> Error {
    Error::failed("registry-unreachable", format!("the pull was given up: {problem}"))
}

/// Name, and tag or digest. Without either the daemon would fetch every tag.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    let after_host = image.rfind('/').map_or(0, |at| at + 1);
    match image[after_host..].rfind(':') {
        Some(at) => (&image[..after_host + at], &image[after_host + at + 1..]),
        None => (image, "latest"),
    }
}

/// The tagged images that are present, by reference.
pub(super) async fn list(client: &Docker) -> Result<Vec<ImageInfo>, Error> {
    let options = None::<query::ListImagesOptions>;
    let listed = within(calls::LIST, client.list_images(options)).await.map_err(Fault::general)?;
    let mut images: Vec<ImageInfo> = listed
        .into_iter()
        .flat_map(|image| {
            let size_bytes = image.size.max(0) as u64;
            let tags = image.repo_tags.into_iter().filter(|tag| !tag.contains("<none>"));
            tags.map(move |reference| ImageInfo { reference, size_bytes }).collect::<Vec<_>>()
        })
        .collect();
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    images.truncate(MAX_IMAGES);
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_split_so_that_only_one_image_is_fetched() {
        assert_eq!(split("a"), ("a", "latest"));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", "latest"));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(split("a/b@sha256:00"), ("a/b", "sha256:00"));
        assert_eq!(split("a:1@sha256:00"), ("a:1", "sha256:00"));
    }
}
