//! Workloads misbehave: they crash, they take too much memory, they find no room.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::look::WITHIN;
use super::stage::{Measured, Stage};
use crate::error::Error;
use crate::witness::{Life, overlaps};

const POLL: Duration = Duration::from_millis(20);
/// Attempts before the leader is killed, and at the end.
const ATTEMPTS: [usize; 2] = [4, 6];
const FIRST_WAIT_MS: u64 = 500;
const MIB: u64 = 1 << 20;
/// Of a worker's 16,000.
const MOST_CPU_MILLIS: u64 = 15_000;
/// How long a task without room is watched.
const PENDING: Duration = Duration::from_secs(2);

/// It ends as soon as it starts: attempts come at growing intervals, through a change of leader too.
pub(super) async fn crash_loop(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("crash", 1)?;
    spec.args = vec!["--crash-at-start".into(), "3".into()];
    let restart = v1::RestartPolicy { condition: "always".into(), delay_ms: Some(FIRST_WAIT_MS), ..Default::default() };
    spec.restart = Some(restart);
    let name = spec.name.clone();
    stage.restart_clock();
    stage.client().create_service(spec).await?;
    stage.timeline.tell("a service that crashes at its start was created");
    attempted(stage, &name, ATTEMPTS[0]).await?;
    let status = stage.client().status().await?;
    let killed = Instant::now();
    stage.remote().kill(&status.leader, false).await?;
    stage.timeline.tell(format!("SIGKILL {} (leader) before attempt {}", status.leader, ATTEMPTS[0] + 1));
    let (_, (_, term)) = tokio::try_join!(stage.accepted(killed), stage.next_leader(&status.leader, status.term))?;
    stage.term = term;
    attempted(stage, &name, ATTEMPTS[1]).await?;
    stage.remote().start(&status.leader).await?;
    let tasks = stage.tasks_of(&name).await?;
    let lives = stage.extra_lives(&name)?;
    let (late_ms, wrong) = judge_attempts(&tasks, &lives);
    stage.wrong.extend(wrong);
    stage.client().remove_service(&name).await?;
    Ok(vec![("attempt after its time had come, the latest", late_ms)])
}

/// Waits until the service's slot had so many instances.
pub(super) async fn attempted(stage: &Stage, service: &str, count: usize) -> Result<(), Error> {
    let counted = |lives: &[Life]| {
        let own = lives.iter().filter(|life| life.service == service).count();
        (own >= count).then_some(())
    };
    let found = stage.witness()?.until(WITHIN, counted).await;
    found
        .ok_or_else(|| Error::failed(format!("{service} had fewer than {count} attempts in {} s", WITHIN.as_secs())))?;
    stage.timeline.tell(format!("attempt {count}"));
    Ok(())
}

/// How late the latest attempt was, and what was wrong: an attempt that is doubled, early or missing, waits that shrink.
fn judge_attempts(tasks: &[v1::Task], lives: &[Life]) -> (f64, Vec<String>) {
    let mut wrong: Vec<_> = overlaps(lives, u64::MAX).iter().map(|overlap| overlap.describe()).collect();
    let mut tasks: Vec<_> = tasks.iter().collect();
    tasks.sort_by_key(|task| task.attempt);
    let mut late_ms = 0;
    for task in &tasks {
        let of_it: Vec<_> = lives.iter().filter(|life| life.task == task.id).collect();
        if of_it.len() > 1 {
            wrong.push(format!("attempt {} ran {} times", task.attempt, of_it.len()));
        }
        if of_it.is_empty() && task.started_at_ms.is_some() {
            wrong.push(format!("attempt {} is said to have started, and nobody saw it", task.attempt));
        }
        for life in of_it {
            if life.from_ms < task.not_before_ms {
                wrong.push(format!("attempt {} was {} ms early", task.attempt, task.not_before_ms - life.from_ms));
            }
            if task.not_before_ms > task.created_at_ms {
                late_ms = late_ms.max(life.from_ms.saturating_sub(task.not_before_ms));
            }
        }
    }
    for pair in tasks.windows(2) {
        if pair[1].attempt != pair[0].attempt + 1 {
            wrong.push(format!("attempt {} is followed by attempt {}", pair[0].attempt, pair[1].attempt));
        }
    }
    let waits: Vec<_> = tasks.iter().map(|task| task.not_before_ms.saturating_sub(task.created_at_ms)).collect();
    if let Some(pair) = waits.windows(2).find(|pair| pair[1] < pair[0]) {
        wrong.push(format!("the waits do not grow: {} ms after {} ms", pair[1], pair[0]));
    }
    (late_ms as f64, wrong)
}

/// It takes more memory than its limit: killed, known as such, tried once more, and given up.
pub(super) async fn oom(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("oom", 1)?;
    spec.args = vec!["--eat-memory".into(), "256".into()];
    spec.limits = Some(v1::Resources { memory_bytes: 64 * MIB, ..Default::default() });
    let restart = v1::RestartPolicy { condition: "on-failure".into(), max_attempts: Some(1), ..Default::default() };
    spec.restart = Some(restart);
    let name = spec.name.clone();
    let began = stage.restart_clock();
    stage.client().create_service(spec).await?;
    let killed = |tasks: &[v1::Task]| {
        let ended: Vec<_> = tasks.iter().filter(|task| task.state == "failed").collect();
        (ended.len() >= 2).then(|| ended.iter().map(|task| task.reason.clone()).collect::<Vec<_>>())
    };
    let reasons = stage.told_of(&name, "has not failed twice", killed).await?;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    stage.timeline.tell(format!("failed twice: {}", reasons.join(", ")));
    if reasons.iter().any(|reason| reason != "oom-killed") {
        stage.wrong.push(format!("the reasons are {}, not oom-killed", reasons.join(" and ")));
    }
    if stage.extra_lives(&name)?.len() != 2 {
        stage.wrong.push(format!("{} instances ran, and one restart was allowed", stage.extra_lives(&name)?.len()));
    }
    stage.client().remove_service(&name).await?;
    Ok(vec![("created to failed twice", took_ms)])
}

/// All reserved: what comes later waits and says why, and runs as soon as there is room.
pub(super) async fn no_room(stage: &mut Stage) -> Result<Measured, Error> {
    let workers = u32::from(stage.remote().layout().workers);
    let reserve = |cpu_millis| Some(v1::Resources { cpu_millis, ..Default::default() });
    let mut filler = stage.extra_spec("filler", workers)?;
    filler.reservations = reserve(MOST_CPU_MILLIS);
    let mut late = stage.extra_spec("late", 1)?;
    late.reservations = reserve(MOST_CPU_MILLIS);
    let (filler_name, late_name) = (filler.name.clone(), late.name.clone());
    stage.restart_clock();
    stage.client().create_service(filler).await?;
    attempted(stage, &filler_name, workers as usize).await?;
    stage.client().create_service(late).await?;
    let pending = |tasks: &[v1::Task]| tasks.iter().find(|task| task.state == "pending").map(|task| task.id.clone());
    let task = stage.told_of(&late_name, "has no pending task", pending).await?;
    explained(stage, &task, workers).await?;
    tokio::time::sleep(PENDING).await;
    if !stage.extra_lives(&late_name)?.is_empty() {
        stage.wrong.push(format!("{late_name} ran though there was no room"));
    }
    let freed = stage.restart_clock();
    stage.client().scale_service(&filler_name, workers - 1).await?;
    stage.timeline.tell_at(freed, format!("{filler_name} is scaled down by one"));
    attempted(stage, &late_name, 1).await?;
    let from_ms = stage.extra_lives(&late_name)?.first().map_or(0, |life| life.from_ms);
    for name in [&filler_name, &late_name] {
        stage.client().remove_service(name).await?;
    }
    Ok(vec![("scaled down to the waiting one running", stage.since_ms(from_ms))])
}

/// Waits until the managers say for every worker that it lacks CPU.
async fn explained(stage: &Stage, task: &str, workers: u32) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let detail = stage.client().task(task).await?;
        let lacking = detail.filters.iter().find(|count| count.filter == "cpu");
        if let Some(count) = lacking.filter(|count| count.nodes == workers) {
            stage.timeline.tell(format!("it is pending: {} nodes: {}", count.nodes, count.text));
            return Ok(());
        }
        if Instant::now() >= deadline {
            let told: Vec<_> =
                detail.filters.iter().map(|count| format!("{}: {}", count.filter, count.nodes)).collect();
            return Err(Error::failed(format!("{task} does not say that CPU is lacking: [{}]", told.join(", "))));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(attempt: u32, created_at_ms: u64, not_before_ms: u64) -> v1::Task {
        let id = format!("t{attempt}");
        v1::Task { id, attempt, created_at_ms, not_before_ms, started_at_ms: Some(1), ..Default::default() }
    }

    fn life(task: &str, from_ms: u64, until_ms: u64) -> Life {
        let (service, node) = ("crash".into(), "w1".into());
        Life { service, slot: 1, node, task: task.into(), from_ms, until_ms: Some(until_ms) }
    }

    #[test]
    fn attempts_are_judged_by_when_they_ran() {
        let tasks = [attempt(1, 0, 0), attempt(2, 20, 520), attempt(3, 540, 1_540)];
        let good = [life("t1", 5, 10), life("t2", 530, 535), life("t3", 1_545, 1_550)];
        assert_eq!(judge_attempts(&tasks, &good), (10.0, vec![]));
        let doubled = [life("t1", 5, 10), life("t2", 519, 535), life("t2", 600, 610)];
        assert_eq!(
            judge_attempts(&tasks, &doubled).1,
            [
                "attempt 2 ran 2 times",
                "attempt 2 was 1 ms early",
                "attempt 3 is said to have started, and nobody saw it"
            ]
        );
        let tasks = [attempt(1, 0, 600), attempt(3, 700, 1_200)];
        let lives = [life("t1", 600, 610), life("t3", 1_200, 1_210)];
        assert_eq!(
            judge_attempts(&tasks, &lives).1,
            ["attempt 1 is followed by attempt 3", "the waits do not grow: 500 ms after 600 ms"]
        );
    }
}
