//! The cluster as a whole: status, peers, handing over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::join_all;
use goat_core::codec;
use goat_core::lease::{LeasePolicy, MASS_WINDOW_MS};
use goat_core::membership::advice;
use goat_core::model::{Manager, Node, NodeState, RequestId, Standing};
use goat_core::state::State;
use goat_core::state::command::Action;
use goat_proto::{convert, v1};
use tonic::Status;

use super::{Control, lookup, seen};
use crate::clock;
use crate::raft::{Group, PeerInfo, seat};

const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
/// Each change takes a round trip and two fsyncs. `status` warns of averages above these.
const SLOW_ROUND_TRIP_US: u64 = 50_000;
const SLOW_FSYNC_US: u64 = 20_000;
/// The last time that can be written as a date (9999-12-31, Unix ms). A clock that was wrong may be beyond.
const LATEST_MS: u64 = 253_402_300_799_000;

/// All managers: members, and those that have joined and are none yet.
pub(super) async fn peers(group: &Group) -> Vec<v1::Peer> {
    let leader = group.leader().map(|leader| leader.id);
    let mut members = group.members();
    let standings: BTreeMap<u64, Standing> = {
        let state = group.view().read();
        let is_new = |manager: &&Manager| manager.is_member() && members.iter().all(|member| member.id != manager.id);
        let new: Vec<_> = state.managers().filter(is_new).cloned().collect();
        members.extend(new.into_iter().map(|Manager { id, name, address, .. }| PeerInfo {
            id,
            name,
            address,
            is_voter: false,
        }));
        state.managers().map(|manager| (manager.id, manager.standing)).collect()
    };
    let answers = join_all(members.into_iter().map(|member| async move {
        let progress = if member.id == group.id() {
            Some(group.progress())
        } else {
            seat::ask(group.peers(), group.id(), &member.address).await.filter(|reply| reply.id == member.id)
        };
        (member, progress)
    }))
    .await;
    // The leader knows the links to all others. One that has just lost its office may still think that it leads.
    let leads =
        answers.iter().filter_map(|(_, progress)| progress.as_ref()).filter(|progress| !progress.links.is_empty());
    let links = leads.max_by_key(|progress| progress.term).map(|progress| progress.links.clone()).unwrap_or_default();
    let view = PeerView { group, leader, links };
    answers
        .into_iter()
        .map(|(member, progress)| {
            let standing = standings.get(&member.id).copied();
            view.peer(member, standing, progress)
        })
        .collect()
}

/// The context in which one peer is described.
struct PeerView<'a> {
    group: &'a Group,
    leader: Option<u64>,
    links: Vec<v1::PeerLink>,
}

impl PeerView<'_> {
    fn peer(&self, member: PeerInfo, standing: Option<Standing>, progress: Option<v1::ProgressReply>) -> v1::Peer {
        let role = match () {
            () if Some(member.id) == self.leader => "leader",
            () if member.is_voter => "follower",
            () if self.group.is_member(member.id) => "learner",
            () => "joining",
        };
        let link = self.links.iter().find(|link| link.id == member.id);
        let problem = link.filter(|_| progress.is_some()).and_then(participation_problem);
        let reachable = progress.is_some() && problem.is_none();
        let progress = progress.unwrap_or_default();
        v1::Peer {
            id: member.id,
            name: member.name,
            address: member.address,
            role: role.to_owned(),
            reachable,
            term: progress.term,
            last_log_index: progress.last_log_index,
            applied_index: progress.applied_index,
            version: progress.version,
            format: match reachable {
                true => progress.format.max(codec::FIRST_FORMAT.into()),
                false => 0,
            },
            standing: standing.map_or("", Standing::as_str).to_owned(),
            backup_problem: progress.backup_problem,
            round_trip_us: link.map_or(0, |link| link.round_trip_us),
            fsync_us: progress.fsync_us,
            problem: problem.unwrap_or_default(),
        }
    }
}

/// Why a manager that answers does not take part in Raft.
fn participation_problem(link: &v1::PeerLink) -> Option<String> {
    if link.is_reached {
        return None;
    }
    match link.silent_ms {
        0 => Some("answers, but has not answered the leader's heartbeats yet".to_owned()),
        silent_ms => Some(format!(
            "answers, but has not answered the leader's heartbeats for {}",
            humantime::format_duration(Duration::from_secs(silent_ms.div_ceil(1_000)))
        )),
    }
}

/// Managers whose link or disk makes every change slow, with the figures.
fn slow_managers(peers: &[v1::Peer]) -> impl Iterator<Item = String> + '_ {
    let ms = |us: u64| us / 1_000;
    let links =
        peers.iter().filter(|peer| peer.reachable && peer.round_trip_us > SLOW_ROUND_TRIP_US).map(move |peer| {
            format!(
                "the link between {} and the leader is slow: a round trip takes {} ms",
                peer.name,
                ms(peer.round_trip_us)
            )
        });
    let disks = peers.iter().filter(|peer| peer.reachable && peer.fsync_us > SLOW_FSYNC_US).map(move |peer| {
        format!("the disk of {} is slow: making a log entry durable takes {} ms", peer.name, ms(peer.fsync_us))
    });
    links.chain(disks)
}

/// What is to be said where no worker is heard, or half of them fell silent at once.
fn silence(state: &State, now_ms: u64) -> Option<String> {
    let is_recent = |node: &&Node| now_ms.saturating_sub(node.state_since_ms) < MASS_WINDOW_MS;
    let of_state = |wanted: NodeState| state.nodes().filter(move |node| node.state == wanted);
    let down = of_state(NodeState::Down).filter(is_recent).count();
    let (silent, ready) = (of_state(NodeState::Disconnected).count(), of_state(NodeState::Ready).count());
    if silent > 0 && ready == 0 {
        return Some(
            "no worker is heard: until one is, none is given up and no task is moved; look at the network between managers and workers, or start a worker".into(),
        );
    }
    let missing = silent + down;
    let known = missing + ready;
    (missing >= 2 && 2 * missing >= known).then(|| {
        let every_s = LeasePolicy::default().mass_interval_ms / 1_000;
        format!(
            "{missing} of {known} workers fell silent at once: they are given up one every {every_s} s; look at the network between managers and workers"
        )
    })
}

/// What is to be said while managers of several versions are there, or all of them could use a newer format.
fn mixed_versions(peers: &[v1::Peer], in_use: u8) -> Option<String> {
    let reached = || peers.iter().filter(|peer| peer.reachable);
    let versions: BTreeSet<_> = reached().map(|peer| (peer.format, peer.version.as_str())).collect();
    if versions.len() > 1 {
        let each: Vec<_> = reached().map(|peer| format!("{} {}", peer.name, peer.version)).collect();
        return Some(format!("managers are of several versions: {}", each.join(", ")));
    }
    let is_behind = versions.first().is_some_and(|(format, _)| *format > u32::from(in_use));
    (is_behind && reached().count() == peers.len()).then(|| {
        "all managers are of the new version: `goatctl cluster upgrade` lets them use its format, for good".to_owned()
    })
}

/// What is to be said of the number of managers, and of those that are on their way.
fn standing_warnings(peers: &[v1::Peer]) -> Vec<String> {
    let voters = peers.iter().filter(|peer| peer.standing == Standing::Voter.as_str());
    let joining: Vec<_> = peers.iter().filter(|peer| peer.role == "joining").map(|peer| peer.name.as_str()).collect();
    let joining =
        (!joining.is_empty()).then(|| format!("managers that have joined and never ran: {}", joining.join(", ")));
    advice(voters.count()).into_iter().chain(joining).collect()
}

/// Those that have not ended.
fn counted_tasks(state: &State) -> HashMap<String, u32> {
    let live = state.tasks_by_state().iter().filter(|(of, _)| !of.is_terminal());
    let counts: Vec<_> = live.map(|(of, count)| (of, *count as u32)).collect();
    let total: u32 = counts.iter().map(|(_, count)| count).sum();
    let named = counts.into_iter().map(|(of, count)| (of.as_str().to_owned(), count));
    named.chain([("total".to_owned(), total)]).collect()
}

fn counted<'a>(words: impl Iterator<Item = &'a str>) -> HashMap<String, u32> {
    let mut counts = HashMap::from([("total".to_owned(), 0)]);
    for word in words {
        *counts.entry(word.to_owned()).or_default() += 1;
        *counts.entry("total".to_owned()).or_default() += 1;
    }
    counts
}

impl Control {
    pub(super) async fn get_status_(&self, request: v1::GetStatusRequest) -> Result<v1::Status, Status> {
        let (group, read) = self.reading(request.read).await?;
        let peers = peers(&group).await;
        let (leader, term) = (group.leader(), group.with_metrics(|metrics| metrics.current_term));
        let missing: Vec<_> = peers.iter().filter(|peer| !peer.reachable).map(|peer| peer.name.as_str()).collect();
        let mut warnings = Vec::new();
        if !missing.is_empty() {
            warnings.push(format!("managers not reached: {}", missing.join(", ")));
        }
        let not_taking_part = peers.iter().filter(|peer| !peer.problem.is_empty());
        warnings.extend(not_taking_part.map(|peer| format!("{} {}", peer.name, peer.problem)));
        warnings.extend(slow_managers(&peers));
        warnings.extend(mixed_versions(&peers, group.view().read().format()));
        warnings.extend(standing_warnings(&peers));
        let unsaved = peers.iter().filter(|peer| !peer.backup_problem.is_empty());
        warnings.extend(unsaved.map(|peer| format!("{} saves no snapshots: {}", peer.name, peer.backup_problem)));
        let managers = v1::Managers { total: peers.len() as u32, reachable: (peers.len() - missing.len()) as u32 };
        let state = group.view().read();
        warnings.extend(silence(&state, clock::now_ms()));
        warnings.extend(state.restored().map(|restored| {
            let heard = state.nodes().filter(|node| node.stocked > restored.version).count();
            let all = state.nodes().len();
            format!("restored from a snapshot: {heard} of {all} workers have said what they run; nothing is started until all have, or have had their time")
        }));
        warnings.extend(state.freeze().map(|freeze| {
            let until = humantime::format_rfc3339_seconds(
                UNIX_EPOCH + Duration::from_millis(freeze.began_at_ms.saturating_add(freeze.for_ms).min(LATEST_MS)),
            );
            match freeze.stopped {
                false => format!("frozen until {until} at least: leased tasks of a lost worker are not moved before"),
                true => format!(
                    "the freeze was stopped: leased tasks of a worker that was not heard since are not moved before {until}"
                ),
            }
        }));
        Ok(v1::Status {
            cluster_id: state.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
            leader: leader.as_ref().map(|leader| leader.name.clone()).unwrap_or_default(),
            term,
            managers: Some(managers),
            nodes: counted(state.nodes().map(|node| node.state.as_str())),
            services: state.services().len() as u32,
            tasks: counted_tasks(&state),
            read: Some(seen(read, &state)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            warnings,
            format: state.format().into(),
        })
    }

    pub(super) async fn freeze_(&self, request: v1::FreezeRequest) -> Result<v1::FreezeReply, Status> {
        let group = self.group()?;
        let action = if request.stop { Action::StopFreeze } else { Action::Freeze { for_ms: request.for_ms } };
        let (_, index) = self.mutate(&group, &request.request_id, action).await?;
        group.linearize().await.map_err(|error| error.into_status(&group))?;
        let freeze = group.view().read().freeze();
        Ok(v1::FreezeReply {
            index,
            until_ms: freeze.map_or(0, |freeze| freeze.began_at_ms.saturating_add(freeze.for_ms)),
        })
    }

    pub(super) async fn upgrade_cluster_(
        &self,
        request: v1::UpgradeClusterRequest,
    ) -> Result<v1::UpgradeClusterReply, Status> {
        let group = self.group()?;
        // Also if there turns out to be nothing to propose.
        convert::parse::<RequestId>("request_id", &request.request_id)?;
        group.linearize().await.map_err(|error| error.into_status(&group))?;
        let before = group.view().read().format();
        let peers = peers(&group).await;
        let missing: Vec<_> = peers.iter().filter(|peer| !peer.reachable).map(|peer| peer.name.as_str()).collect();
        if !missing.is_empty() {
            return Err(Status::failed_precondition(format!(
                "not reached: {}; what they can read is not known, and an older one could not follow any more: bring them \
                 back, or remove them",
                missing.join(", ")
            )));
        }
        let oldest = peers.iter().min_by_key(|peer| peer.format);
        let format = oldest.and_then(|peer| u8::try_from(peer.format).ok()).unwrap_or(before);
        if format > before {
            self.mutate(&group, &request.request_id, Action::SetFormat { format }).await?;
        }
        Ok(v1::UpgradeClusterReply { before: before.into(), format: format.max(before).into() })
    }

    pub(super) async fn list_peers_(&self) -> Result<v1::ListPeersReply, Status> {
        Ok(v1::ListPeersReply { peers: peers(&self.group()?).await })
    }

    pub(super) async fn transfer_leader_(
        &self,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, Status> {
        let group = self.group()?;
        lookup::check_length("to", &request.to)?;
        let leader = group.leader().ok_or_else(|| crate::raft::proposer::Error::NoLeader.into_status(&group))?;
        if !leader.is_here {
            let mut client =
                group.peers().control(&leader.address).map_err(|error| Status::unavailable(error.to_string()))?;
            let call = tokio::time::timeout(TRANSFER_TIMEOUT, client.transfer_leader(request));
            let reply = call
                .await
                .map_err(|_| Status::deadline_exceeded("the leader does not answer; look at `status` and repeat"))?;
            return Ok(reply?.into_inner());
        }
        let to = match request.to.as_str() {
            "" => group
                .best_successor()
                .ok_or_else(|| Status::failed_precondition("there is no other manager to hand over to"))?,
            name => {
                let member =
                    group.members().into_iter().find(|member| member.name == name || member.id.to_string() == name);
                let member = member.ok_or_else(|| Status::not_found(format!("no manager {name:?}")))?;
                if !member.is_voter {
                    return Err(Status::failed_precondition(format!("{} is a learner and cannot lead", member.name)));
                }
                member.id
            }
        };
        let leader = group.hand_over(to, TRANSFER_TIMEOUT).await.map_err(|error| error.into_status(&group))?;
        Ok(v1::TransferLeaderReply { leader: leader.name, term: leader.term })
    }
}
