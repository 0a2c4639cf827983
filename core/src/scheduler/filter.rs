//! The filters, in the order in which they are asked. A node counts for the first that refuses it.

use super::{Candidate, Want};
use crate::model::{Availability, Constraint, Driver, NodeState, Protocol};

/// One reason to refuse a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Filter {
    Ready,
    Active,
    Condition,
    Driver,
    Constraint,
    Cpu,
    Memory,
    Disk,
    Port,
    MaxPerNode,
    MaxTasks,
}

/// Longest text that says why a task is pending. Each pending task's row holds one, and each plan up to 500 of them.
pub const MAX_REASON_BYTES: usize = 1_024;
/// Longest text of one filter; a reason has up to eleven.
const MAX_FILTER_TEXT_BYTES: usize = 240;
/// Longest part of such a text that repeats what a user wrote.
const MAX_QUOTED_BYTES: usize = 64;

const FILTERS: [Filter; 11] = [
    Filter::Ready,
    Filter::Active,
    Filter::Condition,
    Filter::Driver,
    Filter::Constraint,
    Filter::Cpu,
    Filter::Memory,
    Filter::Disk,
    Filter::Port,
    Filter::MaxPerNode,
    Filter::MaxTasks,
];

/// How many nodes a filter refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterCount {
    pub filter: &'static str,
    pub nodes: u32,
    /// What was wanted and is not there.
    pub text: String,
}

/// The counts in one sentence of at most [`MAX_REASON_BYTES`].
pub fn describe(counts: &[FilterCount]) -> String {
    sentence(counts, |count| format!("{} {}", count.nodes, count.text))
}

/// The sentence of [`describe`] without the counts. Rows hold this one: it stays the same when a node more or less is
/// refused for a reason that others are refused for already, so placements elsewhere do not rewrite every pending task.
pub fn describe_kinds(counts: &[FilterCount]) -> String {
    sentence(counts, |count| count.text.clone())
}

/// Each such sentence begins so.
pub const NO_NODE_FITS: &str = "no node fits";

fn sentence(counts: &[FilterCount], part: impl Fn(&FilterCount) -> String) -> String {
    if counts.is_empty() {
        return format!("{NO_NODE_FITS}: there is no node");
    }
    let parts: Vec<_> = counts.iter().map(part).collect();
    shortened(format!("{NO_NODE_FITS}: {}", parts.join(", ")), MAX_REASON_BYTES)
}

/// Cuts a text to `max_bytes`, which is at least 3, at the boundary of a character. A text that was cut ends with an
/// ellipsis.
fn shortened(mut text: String, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > max_bytes {
        let end = (0..=max_bytes - ELLIPSIS.len()).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(ELLIPSIS);
    }
    text
}

pub(super) fn first_refusal(candidate: &Candidate<'_>, want: &Want<'_>) -> Option<usize> {
    FILTERS.iter().position(|filter| !filter.passes(candidate, want))
}

pub(super) fn count(candidates: &[Candidate<'_>], want: &Want<'_>) -> Vec<FilterCount> {
    let mut nodes = [0; FILTERS.len()];
    for candidate in candidates {
        if let Some(filter) = first_refusal(candidate, want) {
            nodes[filter] += 1;
        }
    }
    let refused = FILTERS.iter().zip(nodes).filter(|(_, nodes)| *nodes > 0);
    refused
        .map(|(filter, nodes)| FilterCount {
            filter: filter.name(),
            nodes,
            text: shortened(filter.explain(want), MAX_FILTER_TEXT_BYTES),
        })
        .collect()
}

/// A reference as the runtime lists it: with its tag, or with its digest and then without a tag.
pub(super) fn as_listed(image: &str) -> String {
    let (named, digest) = image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
    let after_host = named.rfind('/').map_or(0, |at| at + 1);
    let colon = named[after_host..].find(':').map(|at| after_host + at);
    match (digest, colon) {
        (Some(digest), colon) => format!("{}@{digest}", &named[..colon.unwrap_or(named.len())]),
        (None, Some(_)) => image.to_owned(),
        (None, None) => format!("{image}:latest"),
    }
}

impl Filter {
    const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Condition => "condition",
            Self::Driver => "driver",
            Self::Constraint => "constraint",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Port => "port",
            Self::MaxPerNode => "max-per-node",
            Self::MaxTasks => "max-tasks",
        }
    }

    fn passes(self, candidate: &Candidate<'_>, want: &Want<'_>) -> bool {
        let (node, used) = (candidate.node, &candidate.used);
        let free = node.inventory.total.minus(used.reserved);
        let wanted = want.task.reservations;
        match self {
            Self::Ready => node.state == NodeState::Ready,
            Self::Active => node.availability == Availability::Active,
            Self::Condition => node.inventory.conditions.is_empty(),
            Self::Driver => node.inventory.drivers.contains(&want.spec.driver),
            Self::Constraint => want.spec.placement.constraints.iter().all(|constraint| constraint.holds_on(node)),
            Self::Cpu => wanted.cpu_millis <= free.cpu_millis,
            Self::Memory => wanted.memory_bytes <= free.memory_bytes,
            Self::Disk => {
                let image = missing_image_bytes(candidate, want);
                wanted.disk_bytes.saturating_add(image) <= free.disk_bytes && image <= node.inventory.disk_free_bytes
            }
            Self::Port => want.task.ports.iter().all(|port| !used.ports.contains_key(&(port.host_port, port.protocol))),
            Self::MaxPerNode => {
                let most = want.spec.placement.max_per_node;
                most == 0 || used.by_service.get(&want.task.service).copied().unwrap_or(0) < most
            }
            Self::MaxTasks => used.tasks < node.inventory.task_limit(),
        }
    }

    fn explain(self, want: &Want<'_>) -> String {
        let wanted = want.task.reservations;
        match self {
            Self::Ready => "not ready".into(),
            Self::Active => "draining".into(),
            Self::Condition => "with a problem of its own (see `goatctl node ls`)".into(),
            Self::Driver => {
                let driver = match want.spec.driver {
                    Driver::Docker => "docker",
                    Driver::Process => "process",
                };
                format!("without the {driver} driver")
            }
            Self::Constraint => {
                let texts: Vec<_> = want.spec.placement.constraints.iter().map(abbreviated).collect();
                format!("outside the constraint {}", texts.join(", "))
            }
            Self::Cpu => format!("lack CPU (need {}.{:03})", wanted.cpu_millis / 1_000, wanted.cpu_millis % 1_000),
            Self::Memory => format!("lack memory (need {})", bytes(wanted.memory_bytes)),
            Self::Disk => {
                let image = want.image_bytes;
                format!(
                    "lack disk (need {} and {} for the image where it is absent)",
                    bytes(wanted.disk_bytes),
                    bytes(image)
                )
            }
            Self::Port => {
                let ports: Vec<_> = want
                    .task
                    .ports
                    .iter()
                    .map(|port| match port.protocol {
                        Protocol::Tcp => port.host_port.to_string(),
                        Protocol::Udp => format!("{}/udp", port.host_port),
                    })
                    .collect();
                format!("have port {} taken", ports.join(" or "))
            }
            Self::MaxPerNode => {
                format!("run {} of the service, the most allowed on one", want.spec.placement.max_per_node)
            }
            Self::MaxTasks => "run as many tasks as they may (max_tasks)".into(),
        }
    }
}

fn abbreviated(constraint: &Constraint) -> String {
    let quoted = |text: &str| shortened(text.to_owned(), MAX_QUOTED_BYTES);
    let operator = if constraint.equal { "==" } else { "!=" };
    format!("{}{operator}{}", quoted(&constraint.label), quoted(&constraint.value))
}

fn missing_image_bytes(candidate: &Candidate<'_>, want: &Want<'_>) -> u64 {
    if want.image_bytes == 0 {
        return 0;
    }
    let reference = as_listed(&want.spec.image);
    let is_present = candidate.node.inventory.images.iter().any(|image| image.reference == reference);
    if is_present { 0 } else { want.image_bytes }
}

/// An amount for people, in the largest binary unit that keeps a digit before the point.
fn bytes(amount: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| amount >= *size);
    unit.map_or_else(
        || format!("{amount} B"),
        |(size, name)| format!("{}.{} {name}", amount / size, amount % size * 10 / size),
    )
}
