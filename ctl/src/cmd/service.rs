//! `run`, and `service` with all that belongs to it but `update`, the removal and `ps`.

use goat_core::model::{HealthCheck, HealthProbe, Resources, ServiceSpec};
use goat_proto::convert::Word;
use goat_proto::v1::{
    CreateServiceRequest, GetServiceRequest, ListServicesRequest, ScaleServiceRequest, Service, ServiceReply,
};

use super::{Context, last_output, pairs, words};
use crate::cli::{ConvergeFlags, ListFlags, ReadFlags, RunArgs};
use crate::client::request_id;
use crate::exit::{Exit, Failure};
use crate::fields::in_flags;
use crate::output::{age, cpus, local_time, or_dash, size, span};
use crate::rows::{ServicePage, ServiceRow, name_of, spec_of};
use crate::wait::{Change, ChangeKind, Converged, Waited, wait};

pub async fn run(context: &Context, args: RunArgs) -> Result<(), Failure> {
    let mut words = args.words;
    words::check(&words)?;
    // Everything after the image is the program's, but for a separator of the kind that other commands need.
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    create(context, args.spec.into_spec(args.name, words)?, &args.wait).await
}

pub async fn create(
    context: &Context,
    spec: goat_proto::v1::ServiceSpec,
    flags: &ConvergeFlags,
) -> Result<(), Failure> {
    let name = spec.name.clone();
    let request = CreateServiceRequest { request_id: request_id(), spec: Some(spec) };
    let reply = context.client.unary(request, async |control, request| control.create_service(request).await).await;
    converge(context, &reply.map_err(in_flags)?, &name, (ChangeKind::Create, flags)).await
}

pub async fn scale(context: &Context, reference: String, replicas: u32, flags: &ConvergeFlags) -> Result<(), Failure> {
    let request = ScaleServiceRequest { request_id: request_id(), reference: reference.clone(), replicas };
    let reply = context.client.unary(request, async |control, request| control.scale_service(request).await).await;
    let reply = reply.map_err(in_flags)?;
    converge(context, &reply, named(&reply.name, &reference), (ChangeKind::Scale, flags)).await
}

/// The name that a manager gave, or what was typed if it gave none: it is an older one, or what was changed is gone.
pub fn named<'a>(name: &'a str, typed: &'a str) -> &'a str {
    if name.is_empty() { typed } else { name }
}

/// Waits until an accepted change has taken effect, and prints the service.
pub(super) async fn converge(
    context: &Context,
    reply: &ServiceReply,
    name: &str,
    (kind, flags): (ChangeKind, &ConvergeFlags),
) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let ConvergeFlags { wait: flags, monitor } = flags;
    if flags.quiet {
        out.line(&reply.id)?;
    }
    let (mut seen, mut waited, mut within) = (None, Waited::Detached, client.timeout());
    if !flags.detach {
        let change = Change { index: reply.index, kind, monitor: *monitor };
        let mut goal = Converged::new(&reply.id, name, change);
        let outcome = wait(client, &mut goal, flags.wait_timeout, reply.index, flags.quiet).await;
        waited = match (outcome, goal.failed_task()) {
            (Err(failure), Some(task)) if failure.exit == Exit::TasksFail => {
                return Err(failure.with_detail(&last_output::of(client, task).await));
            }
            (outcome, _) => outcome?,
        };
        (seen, within) = (goal.service, client.hurry());
    }
    if flags.quiet {
        return Ok(());
    }
    let service = match seen {
        Some(service) => service,
        None => {
            let request = GetServiceRequest { read: None, reference: reply.id.clone() };
            let got = client.unary_within(within, request, async |control, request| control.get_service(request).await);
            got.await.map_err(|failure| failure.after_acceptance(&format!("service {}", reply.id)))?
        }
    };
    print_changed(context, &service, waited)
}

fn print_changed(context: &Context, service: &Service, waited: Waited) -> Result<(), Failure> {
    let (out, row) = (context.out, ServiceRow::from(service));
    if out.is_json() {
        return out.json(&row);
    }
    let state = if waited == Waited::Reached { "converged" } else { "accepted" };
    // Tasks that ran to their end do not run, and are as they should be: the count says what is.
    out.line(format_args!(
        "{}  {}  {state}  {}/{} running",
        row.id, row.name, row.replicas_running, row.replicas_desired
    ))
}

pub async fn ls(context: &Context, flags: &ListFlags) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let request = ListServicesRequest { read: flags.read.options(), ..ListServicesRequest::default() };
    let mut reply = client.list_services(request).await?;
    reply.services.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    context.note_staleness(&flags.read, reply.read);
    if flags.quiet {
        return out.names(reply.services.iter().map(|service| &service.id));
    }
    if out.is_json() {
        return out.json(&reply.services.iter().map(ServiceRow::from).collect::<Vec<_>>());
    }
    let row = |service: &Service| {
        let spec = service.spec.clone().unwrap_or_default();
        let what = if spec.image.is_empty() { spec.command.join(" ") } else { spec.image };
        let ports: Vec<String> =
            spec.ports.iter().map(|port| port_text(port.host_port, port.container_port, &port.protocol)).collect();
        vec![
            service.id.clone(),
            spec.name,
            format!("{}/{}", service.replicas_running, service.replicas_desired),
            what,
            or_dash(&ports.join(" ")),
            age(service.created_at_ms),
            if service.removed { "being removed".into() } else { String::new() },
        ]
    };
    let header = ["ID", "NAME", "RUNNING", "IMAGE", "PORTS", "CREATED", ""];
    out.table(&header, reply.services.iter().map(row).collect())
}

pub async fn inspect(context: &Context, reference: String, read: &ReadFlags) -> Result<(), Failure> {
    let service = get(context, reference, read).await?;
    if context.out.is_json() {
        return context.out.json(&ServicePage::new(&service)?);
    }
    let spec = spec_of(service.spec.as_ref())?;
    let running = format!("{} of {}", service.replicas_running, service.replicas_desired);
    let mut page = vec![
        ("ID", service.id.clone()),
        ("Name", spec.name.clone()),
        ("Running", if service.removed { format!("{running}, being removed") } else { running }),
        ("Created", format!("{} ({})", local_time(service.created_at_ms), age(service.created_at_ms))),
        ("Changed", format!("{} ({})", local_time(service.updated_at_ms), age(service.updated_at_ms))),
        ("Version", format!("{} (of what tasks run: {})", service.version, service.spec_version)),
    ];
    page.extend(spec_page(&spec));
    context.out.page(&page)
}

/// A spec's entries on a page; what was not asked for is left out.
pub fn spec_page(spec: &ServiceSpec) -> Vec<(&'static str, String)> {
    let ports = spec
        .ports
        .iter()
        .map(|port| port_text(port.host_port.into(), port.container_port.into(), port.protocol.word()));
    let mounts = spec.mounts.iter().map(|mount| {
        format!("{} -> {}{}", mount.source, mount.target, if mount.read_only { " (read-only)" } else { "" })
    });
    let constraints = spec.placement.constraints.iter().map(|constraint| {
        format!("{} {} {}", constraint.label, if constraint.equal { "==" } else { "!=" }, constraint.value)
    });
    let most = match spec.placement.max_per_node {
        0 => String::new(),
        most => most.to_string(),
    };
    let entries = [
        ("Driver", spec.driver.word().into()),
        ("Image", spec.image.clone()),
        ("Command", spec.command.join(" ")),
        ("Arguments", spec.args.join(" ")),
        ("Environment", pairs(&spec.env)),
        ("Labels", pairs(&spec.labels)),
        ("Ports", ports.collect::<Vec<_>>().join("\n")),
        ("Mounts", mounts.collect::<Vec<_>>().join("\n")),
        ("Reserves", resources(spec.reservations)),
        ("Limits", resources(spec.limits)),
        ("Restart", restart_text(spec)),
        ("Strategy", spec.placement.strategy.word().into()),
        ("Constraints", constraints.collect::<Vec<_>>().join("\n")),
        ("Most per node", most),
        ("Without managers", spec.on_disconnect().word().into()),
        ("Stop grace", span(spec.stop_grace_ms)),
        ("Health", spec.health.as_ref().map(health_text).unwrap_or_default()),
    ];
    entries.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect()
}

fn restart_text(spec: &ServiceSpec) -> String {
    let restart = &spec.restart;
    let most = restart.max_attempts.map(|most| format!(", {most} times at most")).unwrap_or_default();
    let waits = format!("wait {} up to {}", span(restart.delay_ms), span(restart.max_delay_ms));
    match restart.condition {
        goat_core::model::RestartCondition::No => "no".into(),
        condition => format!("{}{most}; {waits}, anew after {}", condition.word(), span(restart.stable_after_ms)),
    }
}

fn health_text(health: &HealthCheck) -> String {
    let probe = match &health.probe {
        HealthProbe::Http { port, path } => format!("GET {path} on port {port}"),
        HealthProbe::Tcp { port } => format!("connection to port {port}"),
        HealthProbe::Command { argv } => format!("command {}", argv.join(" ")),
    };
    format!(
        "{probe} every {}, at most {}; stopped after {} failures in a row, those within {} of the start not counted",
        span(health.interval_ms),
        span(health.timeout_ms),
        health.retries,
        span(health.start_period_ms)
    )
}

/// `8080 -> 80/tcp`.
fn port_text(host: u32, container: u32, protocol: &str) -> String {
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    format!("{host}->{container}/{protocol}")
}

/// What there is of each, in one line; the empty text for nothing.
pub fn resources(resources: Resources) -> String {
    let mut parts = Vec::new();
    if resources.cpu_millis > 0 {
        parts.push(format!("{} CPU", cpus(resources.cpu_millis)));
    }
    if resources.memory_bytes > 0 {
        parts.push(format!("{} memory", size(resources.memory_bytes)));
    }
    if resources.disk_bytes > 0 {
        parts.push(format!("{} disk", size(resources.disk_bytes)));
    }
    parts.join(", ")
}

pub(super) async fn get(context: &Context, reference: String, read: &ReadFlags) -> Result<Service, Failure> {
    let request = GetServiceRequest { read: read.options(), reference };
    context.client.unary(request, async |control, request| control.get_service(request).await).await
}
