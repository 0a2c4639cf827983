//! The planner's loop: plan on the view, propose, wait for the answer, take note of all that has come meanwhile.

use goat_core::check::check_plan;
use goat_core::orchestrator::Planner;
use goat_core::state::command::{Action, Answer, Command, Outcome, Step};

use crate::world::{Event, ManagerEvent, Purpose, World};

const RETRY_MS: u64 = 100;
/// Plans in a row without a change from outside; more means that the planner goes round in circles.
const MOST_PLANS: u32 = 300;
/// How often a plan is judged: it takes longer than making it.
const JUDGED: u64 = 4;

impl World {
    pub(super) fn wake_planner(&mut self, manager: usize, wait_ms: u64) {
        let at_ms = self.now_ms + wait_ms;
        let Some(leading) = self.leading(manager) else { return };
        if leading.is_planning || leading.plans_at_ms <= at_ms {
            return;
        }
        leading.plans_at_ms = at_ms;
        let term = leading.term;
        self.at(at_ms, Event::Manager(manager, ManagerEvent::Planner { term }));
    }

    pub(crate) fn plan(&mut self, manager: usize) {
        let (now_ms, own) = (self.now_ms, &mut self.managers[manager]);
        let wall_ms = own.wall_ms(now_ms);
        let Some(leading) = own.leading.as_deref_mut() else { return };
        if leading.is_planning {
            return;
        }
        leading.plans_at_ms = u64::MAX;
        while let Some(changes) = leading.changes.pop_front() {
            leading.planner.observe(&own.state, &changes);
        }
        if !leading.planner.has_work(wall_ms) {
            // What waits for a time was told with the last plan.
            let plan = leading.planner.plan(&own.state, wall_ms, self.random.draw());
            return self.sleep_until(manager, plan.wake_at_ms);
        }
        let plan = leading.planner.plan(&own.state, wall_ms, self.random.draw());
        let (is_judged, term) = (self.random.once_in(JUDGED), leading.term);
        if is_judged {
            let found = check_plan(&own.state, &plan);
            if !found.is_empty() {
                return self.fail(format!("m{manager} made a plan that may not be: {}", found[0]));
            }
        }
        if plan.is_empty() {
            return self.sleep_until(manager, plan.wake_at_ms);
        }
        self.judge.plans_in_a_row += 1;
        if self.judge.plans_in_a_row > MOST_PLANS {
            return self.fail(format!("the planner goes round in circles: {plan}"));
        }
        if let Some(leading) = self.leading(manager) {
            leading.is_planning = true;
        }
        self.coverage.add("plan steps", plan.steps.len() as u64);
        self.count_steps(&plan.steps);
        let command = Command { now_ms: plan.at_ms, request: None, action: Action::Plan { steps: plan.steps } };
        self.propose(manager, term, command, Purpose::Plan);
    }

    /// Whether the leader has a plan under way, or something to plan.
    pub(crate) fn is_planning(&self) -> bool {
        let own = &self.managers[self.raft.leader];
        let wall_ms = own.wall_ms(self.now_ms);
        own.leading.as_ref().is_none_or(|leading| {
            leading.is_planning || !leading.changes.is_empty() || leading.planner.has_work(wall_ms)
        })
    }

    fn sleep_until(&mut self, manager: usize, wake_at_ms: Option<u64>) {
        if let Some(at_ms) = wake_at_ms {
            let wait_ms = self.managers[manager].real_of_wall_ms(at_ms).saturating_sub(self.now_ms);
            self.wake_planner(manager, wait_ms.clamp(1, 30_000));
        }
    }

    pub(super) fn planned(&mut self, manager: usize, outcome: &Outcome) {
        if let Outcome::Done(Answer::Counted { stale, .. }) = outcome
            && *stale > 0
        {
            self.coverage.count("plans on an old view");
        }
        if let Some(leading) = self.leading(manager) {
            leading.is_planning = false;
        }
        self.wake_planner(manager, 1);
    }

    /// It is not known whether it took effect: everything is looked at anew.
    pub(super) fn plan_failed(&mut self, manager: usize) {
        let policy = self.plan_policy();
        let own = &mut self.managers[manager];
        if let Some(leading) = own.leading.as_deref_mut() {
            leading.planner = Planner::new(&own.state, policy);
            (leading.is_planning, leading.plans_at_ms) = (false, u64::MAX);
            leading.changes.clear();
        }
        self.wake_planner(manager, RETRY_MS);
    }

    fn count_steps(&mut self, steps: &[Step]) {
        use goat_core::model::Cause;
        for step in steps {
            match step {
                Step::CreateTask(new) => {
                    self.coverage.count("tasks created");
                    if new.cause == Cause::NodeLost {
                        self.coverage.count("moves");
                    }
                }
                Step::Desire { cause: Cause::Drain, .. } => self.coverage.count("tasks drained"),
                Step::Desire { cause: Cause::Update, .. } => self.coverage.count("tasks replaced by an update"),
                _ => {}
            }
        }
    }
}
