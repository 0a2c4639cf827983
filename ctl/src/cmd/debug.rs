//! `operator debug`: what a bug report needs, in one archive, without secrets. What cannot be had is named in it and is no
//! reason to fail: it is wanted most when something does not answer.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use goat_proto::v1::*;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tar::{Builder, Header};
use tonic::Streaming;

use super::Context;
use super::snapshot::{Partial, failed};
use crate::exit::{Failure, say};
use crate::output::{rfc3339, size};
use crate::redact::Redactor;
use crate::rows::{EventRow, NodePage, PeerRow, ServicePage, StatusRow, TaskRow};

/// The last ones.
const EVENTS: u32 = 2_000;

/// What goes into the archive.
#[derive(Debug, Default)]
struct Gathered {
    redactor: Redactor,
    files: Vec<(String, String)>,
    managers: Vec<Asked>,
    /// What of the cluster could not be had, and why.
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Asked {
    name: String,
    address: String,
    /// Why it is not there; null where it is.
    error: Option<String>,
}

pub async fn debug(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let path =
        file.unwrap_or_else(|| format!("goat-debug-{}.tar.gz", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")).into());
    if path.exists() {
        let hint = "give another name with -f: an older file is not overwritten";
        return Err(Failure::failed(format!("{} is there already", path.display())).with_hint(hint));
    }
    let partial = Partial::create(&path)?;
    // Where no manager answers there is nothing to gather.
    let request = GetDebugRequest { own_only: false };
    let reports = context.client.stream(request, async |control, request| control.get_debug(request).await).await?;
    let (reports, error) = all(reports).await;
    let mut gathered = Gathered::default();
    // Services first: what they hide is then looked for in everything else.
    gathered.cluster(context).await;
    reports.into_iter().for_each(|report| gathered.manager(report));
    gathered.missing.extend(error.map(|error| format!("some managers: the connection broke: {error}")));
    gathered.managers.sort_by(|a, b| a.name.cmp(&b.name));
    gathered.write(&partial.file).map_err(|error| failed("write", &path, &error))?;
    let bytes = partial.file.metadata().map_or(0, |metadata| metadata.len());
    partial.keep(&path)?;
    gathered.report(context, &path, bytes)
}

impl Gathered {
    fn add(&mut self, name: impl Into<String>, text: &str) {
        let text = self.redactor.text(text);
        self.files.push((name.into(), text));
    }

    /// As JSON, or why not.
    fn put<T: Serialize>(&mut self, name: &str, found: Result<T, Failure>) {
        let found = found
            .and_then(|value| serde_json::to_string_pretty(&value).map_err(|error| Failure::failed(error.to_string())));
        match found {
            Ok(text) => self.add(format!("cluster/{name}.json"), &text),
            Err(failure) => {
                let problem = self.redactor.text(&failure.message);
                self.missing.push(format!("{name}: {problem}"));
            }
        }
    }

    /// As one manager knows it, whether or not one leads.
    async fn cluster(&mut self, context: &Context) {
        let (client, read) = (&context.client, Some(ReadOptions { stale: true }));
        let request = ListServicesRequest { read, ..Default::default() };
        let services = client.list_services(request).await;
        let services = services.and_then(|reply| {
            let mut services = reply.services;
            services.iter_mut().flat_map(|service| &mut service.spec).for_each(|spec| self.redactor.spec(spec));
            services.iter().map(ServicePage::new).collect::<Result<Vec<_>, _>>()
        });
        self.put("services", services);
        let request = GetStatusRequest { read };
        let status = client.unary(request, async |control, request| control.get_status(request).await).await;
        self.put("status", status.as_ref().map(StatusRow::from).map_err(Clone::clone));
        let peers = client.unary(ListPeersRequest {}, async |control, request| control.list_peers(request).await).await;
        self.put("peers", peers.map(|reply| reply.peers.iter().map(PeerRow::from).collect::<Vec<_>>()));
        let request = ListNodesRequest { read, ..Default::default() };
        let nodes = client.list_nodes(request).await;
        self.put("nodes", nodes.map(|reply| reply.nodes.iter().map(NodePage::from).collect::<Vec<_>>()));
        let request = ListTasksRequest { read, all: true, ..Default::default() };
        let tasks = client.list_tasks(request).await;
        self.put("tasks", tasks.map(|reply| reply.tasks.iter().map(TaskRow::from).collect::<Vec<_>>()));
        let request = WatchEventsRequest { tail: Some(EVENTS), ..Default::default() };
        let events = client.stream(request, async |control, request| control.watch_events(request).await).await;
        let events = match events {
            Ok(stream) => all(stream).await.0,
            Err(failure) => return self.put("events", Err::<(), _>(failure)),
        };
        self.put("events", Ok(events.iter().map(EventRow::from).collect::<Vec<_>>()));
    }

    fn manager(&mut self, report: DebugReport) {
        let DebugReport { id, name, address, error, version, at_ms, .. } = &report;
        let name = if name.is_empty() { format!("manager-{id}") } else { name.clone() };
        let error = (!error.is_empty()).then(|| self.redactor.text(error));
        self.managers.push(Asked { name: name.clone(), address: address.clone(), error: error.clone() });
        if error.is_some() {
            return;
        }
        let at = rfc3339(*at_ms).unwrap_or_default();
        let mut about = format!("manager {name}, number {id}, at {address}, version {version}, asked {at}\n");
        // One index and two hashes: those managers are not of one mind.
        about += &format!("state after the command at index {}: {:016x}\n", report.state_index, report.state_hash);
        let sizes = report.directories.iter();
        let sizes: String =
            sizes.map(|dir| format!("{:>14} bytes {:>6} files  {}\n", dir.bytes, dir.files, dir.path)).collect();
        let log: String = report.log_lines.iter().map(|line| format!("{line}\n")).collect();
        for (file, text) in [
            ("about.txt", about.as_str()),
            ("options.txt", &report.options),
            ("metrics.txt", &report.metrics),
            ("raft.json", &report.raft),
            ("log.txt", &log),
            ("directories.txt", &sizes),
        ] {
            self.add(format!("managers/{name}/{file}"), text);
        }
    }

    fn summary(&self) -> String {
        let mut text = format!("goatctl {} {}\n", env!("CARGO_PKG_VERSION"), Timestamp::now());
        text += "Values of environment variables, arguments, tokens and keys are left out.\n\n";
        for Asked { name, address, error } in &self.managers {
            let what = error.as_ref().map_or("is in here".to_owned(), |error| format!("is missing: {error}"));
            text += &format!("manager {name} ({address}) {what}\n");
        }
        for missing in &self.missing {
            text += &format!("missing: {missing}\n");
        }
        text
    }

    fn write(&self, out: impl Write) -> std::io::Result<()> {
        let mut archive = Builder::new(GzEncoder::new(out, Compression::default()));
        let summary = ("summary.txt".to_owned(), self.summary());
        for (name, text) in std::iter::once(&summary).chain(&self.files) {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(Timestamp::now().as_second().try_into().unwrap_or(0));
            archive.append_data(&mut header, format!("goat-debug/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()
    }

    fn report(&self, context: &Context, path: &Path, bytes: u64) -> Result<(), Failure> {
        let missed = self.managers.iter().filter_map(|asked| Some((asked, asked.error.as_ref()?)));
        for (asked, error) in missed.clone() {
            say(&format!("manager {} ({}) is not in it: {error}", asked.name, asked.address));
        }
        self.missing.iter().for_each(|missing| say(&format!("not in it: {missing}")));
        if context.out.is_json() {
            let value =
                json!({ "file": path, "size_bytes": bytes, "managers": self.managers, "missing": self.missing });
            return context.out.json(&value);
        }
        let (all, missed) = (self.managers.len(), missed.count());
        context.out.line(format_args!(
            "wrote {}: {} of {all} managers, {}; look through it before you pass it on",
            path.display(),
            all - missed,
            size(bytes)
        ))
    }
}

/// Everything up to the end or a break, and why it broke.
async fn all<T>(mut stream: Streaming<T>) -> (Vec<T>, Option<String>) {
    let mut items = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(status) => return (items, Some(status.message().to_owned())),
        }
    }
}
