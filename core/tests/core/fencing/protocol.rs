//! The rules of the protocol, right or broken: what each happening makes of a state.

use std::collections::BTreeMap;

use super::arithmetic::{EVIDENCE_TICKS, FAST, SLOW, first_tick, is_given_up, is_missed, is_over, policy, renewed};
use super::world::{Action, Cut, Mail, World};
use goat_core::lease::LeasePolicy;

/// Which part of the protocol is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// Any manager that has led renews, without asking a quorum.
    RenewsWithoutAQuorum,
    /// A new leader takes its election for proof that nobody was granted anything before.
    NewLeaderDoesNotWait,
    /// A leader gives a worker up though no other has found it by then.
    CountsFromElection,
    /// The worker counts its lease from when the grant came.
    CountsFromReceipt,
    NoWatchdog,
    /// The leader takes a lease's end for the end of the task.
    ForgetsTheKill,
    /// The leader takes its own clock and the worker's for true.
    ForgetsTheClocks,
    /// Another worker's word counts for ever.
    BelievesForEver,
    /// The leader never calls a node down.
    NeverGivesUp,
}

/// What the service asks for, and what can happen to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// `stop`: anything can happen to both workers.
    Stop,
    /// `stop-if-isolated`: anything can happen to the first worker; the second reaches whoever leads, and has found a new
    /// leader after so many ticks at the most.
    OneIsCut { finds_within: u8 },
}

#[derive(Debug, Clone)]
pub struct Protocol {
    pub scene: Scene,
    pub broken: Broken,
    /// By the pace of a clock: the first tick at which a lease is over, or a node is given up.
    over_at: BTreeMap<u8, u8>,
    given_up_at: BTreeMap<u8, u8>,
    /// Ages beyond these change nothing.
    pub oldest_lease: u8,
    pub oldest_silence: u8,
}

impl Protocol {
    pub fn new(scene: Scene, broken: Broken) -> Self {
        let policy = policy();
        let leaders_policy = match broken {
            Broken::ForgetsTheKill => LeasePolicy { kill_ms: 0, ..policy },
            Broken::ForgetsTheClocks => LeasePolicy { rate_error_ppm: 0, ..policy },
            _ => policy,
        };
        let table = |first: &dyn Fn(u8) -> u8| [SLOW, FAST].map(|pace| (pace, first(pace))).into();
        let over_at: BTreeMap<u8, u8> = table(&|pace| first_tick(|ticks| is_over(&policy, ticks, pace)));
        let given_up_at: BTreeMap<u8, u8> =
            table(&|pace| first_tick(|ticks| is_given_up(&leaders_policy, ticks, pace)));
        let (oldest_lease, oldest_silence) = (over_at[&SLOW], given_up_at[&SLOW]);
        Self { scene, broken, over_at, given_up_at, oldest_lease, oldest_silence }
    }

    pub fn is_over(&self, world: &World, w: usize) -> bool {
        world.workers[w].lease >= self.over_at[&world.workers_pace[w]]
    }

    /// Whether the worker may not let its task live any longer.
    pub fn must_end(&self, world: &World, w: usize) -> bool {
        let worker = &world.workers[w];
        let is_sheltered = self.scene != Scene::Stop && worker.is_sheltered(world.workers_pace[w]);
        worker.runs && self.is_over(world, w) && !is_sheltered
    }

    pub fn is_due(&self, world: &World, w: usize) -> bool {
        let pace = world.leader.map(|leader| world.managers_pace[usize::from(leader)]);
        let may = match (self.scene, self.broken) {
            (_, Broken::NeverGivesUp) => false,
            // It waits for the other worker as well; that it is later then than here is as safe.
            (Scene::Stop, _) | (_, Broken::CountsFromElection) => true,
            (Scene::OneIsCut { .. }, _) => self.is_heard(world, 1 - w),
        };
        may && pace.is_some_and(|pace| world.silent[w] >= self.given_up_at[&pace])
    }

    /// Whether the leader grants its heartbeats without a gap.
    fn is_heard(&self, world: &World, w: usize) -> bool {
        let pace = world.leader.map(|leader| world.managers_pace[usize::from(leader)]);
        world.found[w] && pace.is_some_and(|pace| !is_missed(world.silent[w], pace))
    }

    /// The second worker, which nothing keeps from the leader, has something to hear before time goes on.
    pub fn is_overdue(&self, world: &World) -> bool {
        match self.scene {
            Scene::Stop => false,
            Scene::OneIsCut { finds_within } => {
                let within = if world.found[1] { 1 } else { finds_within };
                world.leader.is_some() && world.silent[1] >= within
            }
        }
    }

    pub fn reaches_managers(&self, world: &World, w: usize) -> bool {
        w == 1 || world.cut == Cut::Nobody
    }

    // What happens.

    fn tick(&self, world: &mut World) {
        for w in 0..2 {
            let has_killer = self.broken != Broken::NoWatchdog || !world.workers[w].is_frozen;
            if has_killer && self.must_end(world, w) {
                // It had a tick's time for it, which is K.
                world.workers[w].runs = false;
            }
        }
        if world.leader.is_some() {
            world.silent = world.silent.map(|ticks| (ticks + 1).min(self.oldest_silence));
        }
        for worker in &mut world.workers {
            worker.lease = (worker.lease + 1).min(self.oldest_lease);
            if self.broken != Broken::BelievesForEver {
                worker.evidence = (worker.evidence + 1).min(EVIDENCE_TICKS + 1);
            }
            worker.mail = self.aged(worker.mail);
        }
    }

    fn aged(&self, mail: Mail) -> Mail {
        let is_of_use = |age: u8| age < self.oldest_lease || self.broken == Broken::CountsFromReceipt;
        match mail {
            Mail::Heartbeat { age } if is_of_use(age + 1) => Mail::Heartbeat { age: (age + 1).min(self.oldest_lease) },
            Mail::Grant { age, mine } if is_of_use(age + 1) => {
                Mail::Grant { age: (age + 1).min(self.oldest_lease), mine }
            }
            _ => Mail::Nothing,
        }
    }

    fn elect(&self, world: &mut World, manager: u8) {
        world.is_there_a_stale_leader = self.broken == Broken::RenewsWithoutAQuorum;
        world.leader = Some(manager);
        world.found = [false; 2];
        let waited = if self.broken == Broken::NewLeaderDoesNotWait { self.oldest_silence } else { 0 };
        world.silent = [waited; 2];
    }

    fn grant(&self, world: &mut World, w: u8, is_leader: bool) {
        let at = usize::from(w);
        let Mail::Heartbeat { age } = world.workers[at].mail else { return };
        let mut mine = None;
        if is_leader {
            let is_news = !self.is_heard(world, at);
            (world.silent[at], world.down[at]) = (0, false);
            if self.scene != Scene::Stop {
                world.found[at] = true;
            }
            // The other worker has its full time from when it could learn here that managers live.
            if is_news && self.scene != Scene::Stop && self.broken != Broken::CountsFromElection {
                world.silent[1 - at] = 0;
            }
            mine = Some(world.owner == Some(w));
        }
        world.workers[at].mail = Mail::Grant { age, mine };
    }

    fn deliver(&self, world: &mut World, w: usize) {
        let Mail::Grant { age, mine } = world.workers[w].mail else { return };
        let worker = &mut world.workers[w];
        worker.mail = Mail::Nothing;
        worker.lease = if self.broken == Broken::CountsFromReceipt { 0 } else { renewed(worker.lease, age) };
        let is_over = self.is_over(world, w);
        match mine {
            // Nothing leased is started without a lease.
            Some(true) if !is_over => world.workers[w].runs = true,
            Some(false) => world.workers[w].runs = false,
            _ => {}
        }
    }

    fn ask(world: &mut World, w: usize) {
        let other = 1 - w;
        let lives = world.workers[other].has_fresh_grant(world.workers_pace[other]);
        if !lives {
            world.workers[w].evidence = 0;
        }
    }

    pub fn after(&self, world: &World, action: Action) -> World {
        let mut next = world.clone();
        match action {
            Action::Tick => self.tick(&mut next),
            Action::Elect(manager) => self.elect(&mut next, manager),
            Action::LoseLeader => (next.leader, next.found, next.silent) = (None, [false; 2], [0; 2]),
            Action::Freeze(w) => next.workers[usize::from(w)].is_frozen = true,
            Action::Thaw(w) => next.workers[usize::from(w)].is_frozen = false,
            Action::Cut(cut) => next.cut = cut,
            Action::Send(w) => next.workers[usize::from(w)].mail = Mail::Heartbeat { age: 0 },
            Action::Grant(w) => self.grant(&mut next, w, true),
            Action::GrantStale(w) => self.grant(&mut next, w, false),
            Action::Deliver(w) => self.deliver(&mut next, usize::from(w)),
            Action::Exchange => {
                next.workers[1].mail = Mail::Heartbeat { age: 0 };
                self.grant(&mut next, 1, true);
                self.deliver(&mut next, 1);
            }
            Action::Ask(w) => Self::ask(&mut next, usize::from(w)),
            Action::GiveUp(w) => {
                next.down[usize::from(w)] = true;
                next.owner = next.owner.filter(|owner| *owner != w);
            }
            Action::Assign(w) => next.owner = Some(w),
        }
        self.forget_what_makes_no_difference(&mut next);
        next
    }

    /// Which of two managers leads makes none if their clocks are alike; that it was elected just now does. Without the
    /// task, a frozen agent differs in nothing from one whose messages are late, nobody needs another's word, and of a
    /// lease it matters only whether its grant is fresh: a grant that is under way is newer than the lease.
    fn forget_what_makes_no_difference(&self, world: &mut World) {
        if world.managers_pace[0] == world.managers_pace[1] {
            world.leader = world.leader.map(|_| 0);
        }
        for (worker, pace) in world.workers.iter_mut().zip(world.workers_pace).filter(|(worker, _)| !worker.runs) {
            worker.is_frozen = false;
            worker.evidence = EVIDENCE_TICKS + 1;
            if self.scene == Scene::Stop || !worker.has_fresh_grant(pace) {
                worker.lease = self.oldest_lease;
            }
        }
    }
}
