//! Images: which are present, and fetching those that are not.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::Docker;
use bollard::query_parameters as query;
use futures::future::{BoxFuture, Shared, WeakShared};
use futures::{FutureExt, StreamExt};
use goat_core::model::ImageInfo;
use parking_lot::Mutex;

use super::super::Error;
use super::calls::{self, within};
use super::error::Fault;
use super::prune::Memory;

/// More than so many are not told: schedulers need those that are used, and the message has a limit.
const MAX_IMAGES: usize = 500;

type Pull = BoxFuture<'static, Result<(), Error>>;

/// At most one pull of an image at a time: tasks that need the same share its result, a failure too.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    running: Mutex<HashMap<String, WeakShared<Pull>>>,
}

impl Pulls {
    /// Fetches the image; on return it is present. A pull ends early only when nobody waits for it any more.
    pub(super) async fn pull(&self, client: &Docker, memory: &Arc<Memory>, image: &str) -> Result<(), Error> {
        let pull = self.join(image, || fetch(client.clone(), memory.clone(), image.to_owned()).boxed());
        pull.await
    }

    fn join(&self, image: &str, begin: impl FnOnce() -> Pull) -> Shared<Pull> {
        let mut running = self.running.lock();
        let is_under_way = |pull: &WeakShared<Pull>| pull.upgrade().is_some_and(|pull| pull.peek().is_none());
        running.retain(|_, pull| is_under_way(pull));
        if let Some(pull) = running.get(image).and_then(WeakShared::upgrade) {
            return pull;
        }
        let pull = begin().shared();
        running.extend(pull.downgrade().map(|weak| (image.to_owned(), weak)));
        pull
    }
}

async fn fetch(client: Docker, memory: Arc<Memory>, image: String) -> Result<(), Error> {
    // Somebody else may have fetched it meanwhile, and then it is theirs.
    if within(calls::INSPECT, client.inspect_image(&image)).await.is_ok() {
        return Ok(());
    }
    pull(&client, &image).await?;
    if let Ok(pulled) = within(calls::INSPECT, client.inspect_image(&image)).await {
        memory.pulled(&image, pulled.id.unwrap_or_default()).await;
    }
    Ok(())
}

async fn pull(client: &Docker, image: &str) -> Result<(), Error> {
    let (name, tag) = split(image);
    let options = query::CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
    let mut progress = client.create_image(Some(options), None, None).boxed();
    loop {
        match tokio::time::timeout(calls::PULL_STALL, progress.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(Fault::from(error).on_pull(image)),
            Err(_) => return Err(stalled()),
        }
    }
}

fn stalled() -> Error {
    let problem = format!("the pull was given up: no progress for {} s", calls::PULL_STALL.as_secs());
    Error::failed("registry-unreachable", problem)
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

/// The images that are present, by each reference that a service may use: tags and digests.
pub(super) async fn list(client: &Docker) -> Result<Vec<ImageInfo>, Error> {
    let options = None::<query::ListImagesOptions>;
    let listed = within(calls::LIST, client.list_images(options)).await.map_err(Fault::general)?;
    let mut images: Vec<ImageInfo> = listed
        .into_iter()
        .flat_map(|image| {
            let size_bytes = image.size.max(0) as u64;
            let references = image.repo_tags.into_iter().chain(image.repo_digests);
            let named = references.filter(|reference| !reference.contains("<none>"));
            named.map(move |reference| ImageInfo { reference, size_bytes }).collect::<Vec<_>>()
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

    #[tokio::test]
    async fn those_who_want_the_same_image_share_one_pull_and_its_failure() {
        let pulls = Pulls::default();
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let failure = Error::failed("pull-denied", "no");
        let told = failure.clone();
        let first = pulls.join("a:1", || answered.map(|_| Err(told)).boxed());
        let second = pulls.join("a:1", || unreachable!("one is under way"));
        answer.send(()).expect("it is waited for");
        assert_eq!(futures::join!(first, second), (Err(failure.clone()), Err(failure)));
        assert_eq!(pulls.join("a:1", || futures::future::ready(Ok(())).boxed()).await, Ok(()), "the next is another");
    }

    #[tokio::test]
    async fn a_pull_that_nobody_waits_for_any_more_ends() {
        let pulls = Pulls::default();
        let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
        let pull = pulls.join("a:1", || {
            async move {
                let _ended = ended;
                futures::future::pending().await
            }
            .boxed()
        });
        assert_eq!(pull.clone().now_or_never(), None);
        drop(pull);
        assert!(has_ended.await.is_err(), "its end was dropped with it");
    }
}
