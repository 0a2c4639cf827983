//! A manager's metrics: what is counted ([`meters`], [`rpc`]), and what is looked at when somebody asks.
//!
//! Nothing here scans what grows with history: tasks are counted by an index of the state. What waits for a node is looked
//! through, and why on all nodes for [`MOST_SPECS`] specs at the most; workers are looked through. The figures of the state
//! are made once for all who ask within [`FRESH`], in pieces that each hold the state's lock for a short time.

pub mod meters;
pub mod names;
pub mod rpc;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use goat_core::model::{Availability, NodeState, TaskState};
use goat_core::scheduler::pending::Census;
use goat_observe::Sheet;
use goat_observe::metric::{Show, register};
use goat_observe::process::ThisProcess;
use goat_proto::convert::Word as _;
use goat_raft_store::FamilyStats;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::clock;
use crate::dispatcher::Desk;
use crate::machine::View;
use crate::raft::Group;
use crate::raft::seat::Seat;
use rpc::Rpcs;

/// Of which it is looked for why their tasks wait.
const MOST_SPECS: usize = 20;

/// Tasks that wait and are counted under one hold of the state's lock: some 100 ns each.
const PIECE_TASKS: usize = 10_000;
/// The figures of the state count for so long: whoever asks more often makes no more work than this. Monitoring asks every
/// 15 s as a rule.
const FRESH: Duration = Duration::from_secs(1);

/// All that a manager shows.
pub fn registry(seat: Seat, desk: Desk, rpcs: Rpcs) -> Registry {
    let mut registry = Registry::default();
    register(&mut registry, Manager { seat, desk, figures: Mutex::default() });
    register(&mut registry, rpcs);
    register(&mut registry, ThisProcess);
    registry
}

/// Everything but calls and the process.
#[derive(Debug)]
struct Manager {
    seat: Seat,
    desk: Desk,
    /// Held while they are made, so that those who ask meanwhile share them.
    figures: Mutex<Option<(Instant, Figures)>>,
}

impl Show for Manager {
    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.each(&names::BUILD, [(["goat-manager", env!("CARGO_PKG_VERSION")], true)])?;
        show_dispatcher(&self.desk, sheet)?;
        // Until Raft runs there is nothing to say of the rest.
        let Some(group) = self.seat.group() else { return Ok(()) };
        show_raft(&group, sheet)?;
        show_store(&group, sheet)?;
        show_planner(&group, sheet)?;
        self.figures(group.view()).show(sheet)
    }
}

impl Manager {
    fn figures(&self, view: &View) -> Figures {
        let mut last = self.figures.lock();
        if let Some((made_at, figures)) = &*last
            && made_at.elapsed() < FRESH
        {
            return figures.clone();
        }
        let figures = Figures::of(view);
        *last = Some((Instant::now(), figures.clone()));
        figures
    }
}

fn show_raft(group: &Group, sheet: &mut Sheet<'_>) -> fmt::Result {
    let meters = group.meters();
    let leader = group.leader();
    let members = group.members();
    let missed = group.missed().len();
    sheet.one(&names::RAFT_IS_LEADER, leader.as_ref().is_some_and(|leader| leader.is_here))?;
    sheet.one(&names::RAFT_HAS_LEADER, leader.is_some())?;
    if let Some(age_ms) = group.age_ms() {
        sheet.one(&names::RAFT_CONTACT_AGE, age_ms as f64 / 1_000.0)?;
    }
    let voters = members.iter().filter(|member| member.is_voter).count();
    sheet.each(&names::RAFT_MEMBERS, [(["voter"], voters), (["learner"], members.len() - voters)])?;
    sheet.one(&names::RAFT_MISSED_PEERS, missed)?;
    sheet.one(&names::RAFT_LEADER_CHANGES, meters.leader_changes.get())?;
    sheet.each(&names::RAFT_PROPOSALS, meters.proposals.rows())?;
    sheet.spread(&names::RAFT_COMMIT_SECONDS, &meters.commit)?;

    let reached = members.iter().map(|member| (member, group.link_figures(member.id)));
    let reached = reached.filter(|(member, link)| member.id != group.id() && link.is_reached);
    let round_trips = reached.map(|(member, link)| ([member.name.clone()], link.round_trip_us as f64 / 1e6));
    sheet.each(
        &names::RAFT_PEER_ROUND_TRIP,
        round_trips.filter(|_| leader.as_ref().is_some_and(|leader| leader.is_here)),
    )?;
    sheet.one(&names::RAFT_FSYNC, group.store().sync_time().as_secs_f64())?;
    let metrics = group.with_metrics(Clone::clone);
    let index = |id: &Option<_>| id.as_ref().map_or(0, openraft::LogId::index);
    let (last, applied) = (metrics.last_log_index.unwrap_or(0), index(&metrics.last_applied));
    let committed = index(&metrics.cluster_committed);
    sheet.one(&names::RAFT_TERM, metrics.current_term)?;
    sheet.one(&names::RAFT_ELECTIONS, metrics.current_term.saturating_sub(meters.first_term))?;
    sheet.one(&names::RAFT_LAST_LOG_INDEX, last)?;
    sheet.one(&names::RAFT_COMMITTED_INDEX, committed)?;
    sheet.one(&names::RAFT_APPLIED_INDEX, applied)?;
    sheet.one(&names::RAFT_APPLY_LAG, committed.saturating_sub(applied))?;
    let matched = metrics.replication.iter().flatten().filter(|(id, _)| **id != group.id());
    let peers = matched.map(|(id, matched)| {
        let name =
            members.iter().find(|member| member.id == *id).map_or_else(|| id.to_string(), |member| member.name.clone());
        ([name], last.saturating_sub(index(matched)))
    });
    sheet.each(&names::RAFT_PEER_LAG, peers)?;
    sheet.one(&names::RAFT_SNAPSHOT_INDEX, index(&metrics.snapshot))
}

fn show_store(group: &Group, sheet: &mut Sheet<'_>) -> fmt::Result {
    let (ends, stats) = (group.store().ends(), group.store().stats());
    let of_each =
        |value: fn(&FamilyStats) -> u64| stats.families.iter().map(move |family| ([family.name], value(family)));
    // One more than the last that is gone, where there is one at all.
    let begin = ends.purged.map_or(0, |id| id.index + 1);
    let end = ends.last.map_or(begin, |id| id.index + 1);
    sheet.one(&names::RAFT_LOG_ENTRIES, end.saturating_sub(begin))?;
    sheet.one(&names::RAFT_SNAPSHOT_BYTES, stats.snapshot_bytes)?;
    sheet.each(&names::STORE_FILES, of_each(|family| family.files_bytes))?;
    sheet.each(&names::STORE_LIVE, of_each(|family| family.live_bytes))?;
    sheet.each(&names::STORE_MEMTABLES, of_each(|family| family.memtables_bytes))?;
    sheet.each(&names::STORE_PENDING_COMPACTION, of_each(|family| family.pending_compaction_bytes))?;
    sheet.one(&names::STORE_BLOCK_CACHE, stats.block_cache_bytes)?;
    sheet.one(&names::STORE_COMPACTIONS, stats.running_compactions)?;
    sheet.one(&names::STORE_ERRORS, stats.background_errors)?;
    sheet.one(&names::STORE_STOPPED, stats.is_write_stopped)
}

fn show_planner(group: &Group, sheet: &mut Sheet<'_>) -> fmt::Result {
    let meters = group.meters();
    sheet.one(&names::PLANS, meters.plans.get())?;
    sheet.each(&names::PLAN_STEPS, meters.steps.rows())?;
    sheet.spread(&names::PLAN_SECONDS, &meters.plan)?;
    sheet.one(&names::PLANNER_RESTARTS, meters.planner_restarts.get())
}

fn show_dispatcher(desk: &Desk, sheet: &mut Sheet<'_>) -> fmt::Result {
    let meters = desk.meters();
    sheet.one(&names::SESSIONS, desk.sessions())?;
    sheet.one(&names::SESSIONS_BEGUN, meters.sessions_begun.get())?;
    sheet.one(&names::GRANTS, meters.grants.get())?;
    sheet.one(&names::HEARTBEATS_DROPPED, meters.heartbeats_dropped.get())?;
    sheet.one(&names::REPORTS, meters.reports.get())?;
    sheet.each(&names::SILENCES, meters.silences.rows())
}

/// What is shown of the state.
#[derive(Debug, Clone)]
struct Figures {
    services: usize,
    tasks: Vec<(TaskState, usize)>,
    nodes: Vec<(NodeState, usize)>,
    draining: usize,
    pending: BTreeMap<&'static str, usize>,
}

impl Figures {
    fn of(view: &View) -> Self {
        let mut census = Census::new(clock::now_ms(), MOST_SPECS);
        while census.proceed(&view.read(), PIECE_TASKS) {}
        let state = view.read();
        let counts = state.tasks_by_state();
        let of_state = |wanted: &NodeState| state.nodes().filter(|node| node.state == *wanted).count();
        Self {
            services: state.services().len(),
            tasks: TaskState::ALL.iter().map(|of| (*of, counts.get(of).copied().unwrap_or(0))).collect(),
            nodes: NodeState::ALL.iter().map(|wanted| (*wanted, of_state(wanted))).collect(),
            draining: state.nodes().filter(|node| node.availability == Availability::Drain).count(),
            pending: census.finish(),
        }
    }

    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.one(&names::SERVICES, self.services)?;
        sheet.each(&names::TASKS, self.tasks.iter().map(|(state, count)| ([state.word()], *count)))?;
        sheet.each(&names::NODES, self.nodes.iter().map(|(state, count)| ([state.word()], *count)))?;
        sheet.one(&names::NODES_DRAINING, self.draining)?;
        sheet.each(&names::PENDING, self.pending.iter().map(|(reason, count)| ([*reason], *count)))
    }
}
