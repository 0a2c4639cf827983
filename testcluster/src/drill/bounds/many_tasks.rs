//! A service is scaled beyond what the cluster can hold: refused with the figure. The largest count that is accepted runs or
//! waits, and scaling back works.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::large_specs::is_clear;
use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;

const BEYOND: u32 = 100_000;
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };
const POLL: Duration = Duration::from_millis(200);
const RUN_WITHIN: Duration = Duration::from_secs(300);
const BACK_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let period = Period::begin(stage, "many tasks").await?;
    // Nothing runs of it, so that a cluster that accepts everything does not take the machine down.
    let mut nowhere = stage.extra_spec("nowhere", 1)?;
    nowhere.constraints.push(v1::Constraint { label: "node.name".into(), equal: true, value: "nowhere".into() });
    let name = nowhere.name.clone();
    stage.client().create_service(nowhere).await?;
    let figure = match stage.client().scale_service(&name, BEYOND).await {
        Err(Error::Refused { status, .. }) if is_clear(&status) => {
            stage.timeline.tell(format!("{BEYOND} replicas refused: {}", status.message()));
            figure(status.message())
        }
        Err(error) => return Err(error),
        Ok(_) => {
            stage.wrong.push(format!("{BEYOND} replicas were accepted on {} workers", stage.workers().len()));
            None
        }
    };
    let mut measured = vec![("scaled back, all waiting", scaled_back(stage, &name).await?)];
    stage.client().remove_service(&name).await?;
    match figure {
        Some(figure) => measured.extend(largest(stage, figure).await?),
        None => stage.wrong.push(format!("no refusal of {BEYOND} replicas names how many the cluster holds")),
    }
    measured.push(("longest write gap", period.end(stage, ALLOWED).await?));
    Ok(measured)
}

/// The largest number in the text below the one that was asked for: how many tasks the cluster holds.
fn figure(text: &str) -> Option<u32> {
    let text = text.replace(',', "");
    let numbers = text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    numbers.filter(|number| *number < BEYOND).max()
}

/// Scales a real service to what is left of that, and back.
async fn largest(stage: &mut Stage, figure: u32) -> Result<Measured, Error> {
    let own = stage.client().tasks(false).await?.len();
    let left = figure.saturating_sub(u32::try_from(own).unwrap_or(u32::MAX));
    let spec = stage.extra_spec("many", 1)?;
    let name = spec.name.clone();
    stage.client().create_service(spec).await?;
    let began = Instant::now();
    // The figure may be of all tasks or of what is still free.
    let accepted = match stage.client().scale_service(&name, figure).await {
        Ok(_) => figure,
        Err(Error::Refused { .. }) => {
            stage.client().scale_service(&name, left).await?;
            left
        }
        Err(error) => return Err(error),
    };
    stage.timeline.tell(format!("{accepted} replicas accepted"));
    settled(stage, &name, accepted, RUN_WITHIN).await?;
    let ran_ms = began.elapsed().as_secs_f64() * 1e3;
    let back_ms = scaled_back(stage, &name).await?;
    stage.client().remove_service(&name).await?;
    Ok(vec![("largest count runs or waits", ran_ms), ("scaled back, all running", back_ms)])
}

/// Scales the service to one replica; how long it took until that was all, in ms.
async fn scaled_back(stage: &Stage, name: &str) -> Result<f64, Error> {
    let began = Instant::now();
    stage.client().scale_service(name, 1).await?;
    settled(stage, name, 1, BACK_WITHIN).await?;
    stage.timeline.tell(format!("scaled back to 1 replica within {} ms", began.elapsed().as_millis()));
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Waits until the service has so many tasks, and each of them runs or waits for a node.
async fn settled(stage: &Stage, name: &str, replicas: u32, within: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    let request = v1::ListTasksRequest { service: name.to_owned(), ..Default::default() };
    loop {
        let tasks = stage.client().list_tasks(request.clone()).await?;
        let is_settled = |task: &&v1::Task| task.state == "running" || task.state == "pending";
        let settled = tasks.iter().filter(is_settled).count();
        if settled == replicas as usize && settled == tasks.len() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!(
                "{name}: after {} s {settled} of {} tasks run or wait, and {replicas} were asked for",
                within.as_secs(),
                tasks.len()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_found_in_a_refusal() {
        assert_eq!(figure("replicas 100000: the cluster holds 1,536 tasks on 3 workers, at most"), Some(1_536));
        assert_eq!(figure("replicas 100000 are too many"), None);
    }
}
