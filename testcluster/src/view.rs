//! What `testcluster up` shows: on a terminal a block that is drawn anew, elsewhere a line per change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::time::Duration;

use goat_proto::v1;

use crate::client::Client;
use crate::cluster::{Cluster, Condition, MemberStatus};
use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::up::say;

const EVERY: Duration = Duration::from_millis(500);
/// Tasks that are listed; of the others only the number.
const MAX_TASKS: usize = 12;

/// What managers say, as far as any answers.
#[derive(Debug, Default, Clone)]
struct Told {
    leader: String,
    term: u64,
    tasks: Vec<v1::Task>,
    nodes: BTreeMap<String, v1::Node>,
    is_current: bool,
}

/// Shows the cluster until dropped.
pub async fn show(cluster: &Cluster, client: &Client, binaries: &Path) -> Result<(), Error> {
    let is_terminal = std::io::stdout().is_terminal();
    say(&hints(cluster.layout(), binaries));
    let client = client.with_limits(Duration::from_millis(700), Duration::from_secs(1));
    let (mut drawn, mut before, mut told) = (0, BTreeMap::new(), Told::default());
    loop {
        match look(&client).await {
            Some(now) => told = now,
            None => told.is_current = false,
        }
        let members = cluster.status().await;
        if is_terminal {
            let block = block(&members, &told, &cluster.disturbances());
            drawn = redraw(&block, drawn);
        } else {
            let now = facts(&members, &told, &cluster.disturbances());
            tell_changes(&before, &now);
            before = now;
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(client: &Client) -> Option<Told> {
    let read = Some(v1::ReadOptions { stale: true });
    let request = v1::GetStatusRequest { read };
    let status =
        client.call("status", request, |mut control, request| async move { control.get_status(request).await });
    let tasks = client.list_tasks(v1::ListTasksRequest { read, ..Default::default() });
    let nodes = client.list_nodes(v1::ListNodesRequest { read, ..Default::default() });
    let (status, mut tasks, nodes) = tokio::try_join!(status, tasks, nodes).ok()?;
    tasks.sort_by(|a, b| (&a.service, a.slot, a.attempt).cmp(&(&b.service, b.slot, b.attempt)));
    let nodes = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
    Some(Told { leader: status.leader, term: status.term, tasks, nodes, is_current: true })
}

fn condition(member: &MemberStatus, told: &Told) -> String {
    match &member.condition {
        Condition::Frozen => "paused".into(),
        Condition::Stopped => "stopped".into(),
        Condition::Ended(how) => format!("ended by itself, {how}"),
        Condition::Running if member.name == told.leader => format!("leads, term {}", told.term),
        Condition::Running if member.name.starts_with('m') => "follows".into(),
        Condition::Running => match told.nodes.get(&member.name) {
            Some(node) => format!("{}, {} tasks", node.state, node.tasks),
            None => "joining".into(),
        },
    }
}

fn block(members: &[MemberStatus], told: &Told, links: &[String]) -> String {
    let mut text = String::new();
    for member in members {
        let _ = writeln!(text, "{:<5} {:<22} {}", member.name, member.address, condition(member, told));
    }
    for task in told.tasks.iter().take(MAX_TASKS) {
        let note = if task.error.is_empty() { String::new() } else { format!("  {}", task.error) };
        let name = format!("{}.{}", task.service, task.slot);
        let node = if task.node.is_empty() { "-" } else { &task.node };
        let _ = writeln!(text, "{name:<12} {:<10} {node:<5} {}{note}", task.state, task.id);
    }
    if told.tasks.len() > MAX_TASKS {
        let _ = writeln!(text, "and {} more tasks", told.tasks.len() - MAX_TASKS);
    }
    for link in links {
        let _ = writeln!(text, "{link}");
    }
    if !told.is_current {
        text.push_str("no manager answers at present; tasks are as last heard\n");
    }
    text
}

/// Draws over what was drawn before; the number of lines now.
fn redraw(block: &str, drawn: usize) -> usize {
    let mut out = std::io::stdout();
    if drawn > 0 {
        let _ = write!(out, "\x1b[{drawn}A\x1b[J");
    }
    // A line that is too long is cut off, not wrapped: the number of lines must be known to draw over them.
    let _ = write!(out, "\x1b[?7l{block}\x1b[?7h");
    let _ = out.flush();
    block.lines().count()
}

type Facts = BTreeMap<String, String>;

fn facts(members: &[MemberStatus], told: &Told, links: &[String]) -> Facts {
    let mut facts: Facts = members.iter().map(|member| (member.name.clone(), condition(member, told))).collect();
    for task in &told.tasks {
        let name = format!("{}.{} {}", task.service, task.slot, task.id);
        facts.insert(
            name,
            if task.node.is_empty() { task.state.clone() } else { format!("{} on {}", task.state, task.node) },
        );
    }
    facts.extend(links.iter().map(|link| (link.clone(), "set".to_owned())));
    if !told.is_current {
        facts.insert("managers".into(), "none answers".into());
    }
    facts
}

fn tell_changes(before: &Facts, now: &Facts) {
    for (what, how) in now {
        if before.get(what) != Some(how) {
            say(&format!("{what}: {how}"));
        }
    }
    for what in before.keys().filter(|what| !now.contains_key(*what)) {
        say(&format!("{what}: gone"));
    }
}

/// What to try next, to copy from.
pub fn hints(layout: &Layout, binaries: &Path) -> String {
    let dir = if layout.dir == crate::layout::default_dir() {
        String::new()
    } else {
        format!(" --dir {}", layout.dir.display())
    };
    let mut text = String::from("\nTry, in another terminal:\n");
    if let Some(front) = layout.front {
        let _ = writeln!(text, "  curl -X POST localhost:{}/ -d '{{\"Msg\":\"Hello, world!\"}}'", front.port());
    }
    let _ = writeln!(text, "  export PATH={}:$PATH", binaries.display());
    let _ = writeln!(text, "  {}", environment(layout));
    let lines = [
        ("goatctl status".to_owned(), "the cluster at a glance"),
        ("goatctl service ps echo".to_owned(), "where echo runs"),
        ("goatctl service scale echo 3".to_owned(), "one more"),
        (format!("curl {}/readyz", layout.http(Member::Manager(1))), "whether m1 can serve; also /healthz, /metrics"),
        (format!("testcluster{dir} kill leader"), "another manager takes over"),
        (format!("testcluster{dir} kill w1 --with-tasks"), "as if its machine died: its tasks move"),
        (format!("testcluster{dir} start w1"), "and back"),
        (format!("testcluster{dir} cut w2 m1"), "and testcluster heal"),
        ("testcluster drill leader-kill".to_owned(), "a rehearsal in a cluster of its own, measured"),
        (format!("testcluster{dir} down"), "end everything (or Ctrl-C)"),
    ];
    for (command, what) in lines.iter().filter(|(command, _)| layout.front.is_some() || !command.contains("echo")) {
        let _ = writeln!(text, "  {command:<42} # {what}");
    }
    text
}

/// What goatctl has to know of the cluster, for a shell.
pub fn environment(layout: &Layout) -> String {
    let (addresses, credentials) = (layout.addresses().join(","), layout.credentials());
    format!("export GOAT_ADDR={addresses} GOAT_CREDENTIALS={}", credentials.display())
}
