//! Writes that stop in the middle of a drill and go on later.

use super::stage::Stage;
use crate::error::Error;
use crate::recorder::Recorder;
use crate::witness::now_ms;

impl Stage {
    /// No more writes; what was acknowledged so far has to be there.
    pub(super) async fn quiet(&mut self) -> Result<(), Error> {
        let Some(recorder) = self.recorder.take() else { return Ok(()) };
        let report = recorder.finish().await?;
        self.wrong.extend(report.violations);
        self.wrong.extend(report.failures.iter().map(|failure| format!("a request failed: {failure}")));
        Ok(())
    }

    /// No more writes; what was acknowledged since they began is nobody's concern.
    pub(super) async fn abandon(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            recorder.abandon().await;
        }
    }

    /// Writes go on.
    pub(super) fn resume(&mut self) {
        let writers = usize::from(self.remote().layout().managers);
        self.recorder = Some(Recorder::start(self.client(), writers, self.options.load_per_s));
    }

    /// What has ended or was started until now was meant.
    pub(super) fn judge_from_now(&mut self) {
        self.began_ms = now_ms();
    }
}
