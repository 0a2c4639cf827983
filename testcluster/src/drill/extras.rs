//! Services that a drill brings along besides the three of every drill.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::look::WITHIN;
use super::stage::Stage;
use crate::cluster::Options;
use crate::echo;
use crate::error::Error;
use crate::witness::Life;

const POLL: Duration = Duration::from_millis(20);

impl Stage {
    /// Of an echo with a name of its own in this repeat.
    pub(super) fn extra_spec(&self, what: &str, replicas: u32) -> Result<v1::ServiceSpec, Error> {
        let layout = self.remote().layout();
        let program = Options::new(layout.dir.clone(), layout.runtime)?.binaries.join("echo");
        let first = self.services.first().map_or("drill", |(_, name)| name.trim_end_matches("-keep"));
        Ok(echo::spec(&format!("{first}-{what}-{}", self.nth), layout.runtime, replicas, &program))
    }

    /// The lives of that service so far, oldest first.
    pub(super) fn extra_lives(&self, service: &str) -> Result<Vec<Life>, Error> {
        let mut lives: Vec<_> = self.witness()?.lives().into_iter().filter(|life| life.service == service).collect();
        lives.sort_by_key(|life| life.from_ms);
        Ok(lives)
    }

    /// All tasks of the service that managers remember.
    pub(super) async fn tasks_of(&self, service: &str) -> Result<Vec<v1::Task>, Error> {
        Ok(self.client().tasks(true).await?.into_iter().filter(|task| task.service == service).collect())
    }

    /// Waits until what managers tell of the service's tasks answers the question.
    pub(super) async fn told_of<T>(
        &self,
        service: &str,
        not_yet: &str,
        ask: impl Fn(&[v1::Task]) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let tasks = self.tasks_of(service).await?;
            if let Some(answer) = ask(&tasks) {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                let states: Vec<_> = tasks.iter().map(|task| format!("{} {}", task.state, task.reason)).collect();
                return Err(Error::failed(format!("{service} {not_yet}: {}", states.join(", "))));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
