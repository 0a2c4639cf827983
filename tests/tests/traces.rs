//! A request is traced from goatctl through commit to the start of its task, by real programs, at a collector of the test's.

#[allow(dead_code, reason = "each file of tests uses a part")]
mod world;

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};
use world::World;

/// A span as far as it is looked at.
#[derive(Debug, Clone)]
struct Span {
    program: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_program in request.into_inner().resource_spans {
            let attributes = of_program.resource.map(|resource| resource.attributes).unwrap_or_default();
            let program = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let program = program.and_then(|attribute| attribute.value).map(|value| format!("{value:?}"));
            for span in of_program.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    program: program.clone().unwrap_or_default(),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// From the container's start to its cause.
const WAY: [&str; 8] = [
    "start",
    "task",
    "assign",
    "commit",
    "/goat.v1.Raft/Propose",
    "propose",
    "/goat.v1.Control/CreateService",
    "goatctl service create",
];

/// The names from the span up to the beginning of its trace.
fn ancestry(spans: &[Span], from: &Span) -> Vec<String> {
    let parent = |span: &&Span| spans.iter().find(|other| other.trace == span.trace && other.id == span.parent);
    std::iter::successors(Some(from), parent).map(|span| span.name.clone()).collect()
}

#[test]
fn a_trace_leads_from_goatctl_through_commit_to_the_start_of_the_task() {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let collector = Collector::default();
    let listener = {
        let _inside = runtime.enter();
        TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free")
    };
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let server = runtime.spawn(server.serve_with_incoming(listener));
    let world = World::up("process", &["--managers", "3", "--workers", "1", "--otlp-endpoint", &endpoint]);
    // Through a manager that has to ask the leader.
    let leader = world.json(&["status"])["leader"].as_str().expect("there is one").to_owned();
    let managers = world.json(&["manager", "ls"]);
    let follower = managers.as_array().expect("a list").iter().find(|manager| manager["name"] != leader.as_str());
    let follower = follower.expect("there are three")["address"].as_str().expect("it has one").to_owned();
    let create = ["--otlp-endpoint", &endpoint, "service", "create", "--name", "traced", "--driver", "process"];
    let (code, out, err) =
        world.run_at(&follower, &[&create[..], &["--on-disconnect", "keep", "/bin/sleep", "1000"]].concat());
    assert_eq!(code, 0, "{out}{err}");

    let start =
        world.until("the worker's part arrives", || collector.spans().into_iter().find(|span| span.name == "start"));
    world.until("the rest arrives", || (ancestry(&collector.spans(), &start) == WAY).then_some(()));
    let spans = collector.spans();
    for program in ["goatctl", "goat-manager", "goat-worker"] {
        assert!(spans.iter().any(|span| span.program.contains(program)), "{program} in {spans:?}");
    }
    let traces: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), 1, "what nobody asked for is not traced: {spans:#?}");

    // A collector that is gone is nobody's failure.
    server.abort();
    world.ok(&["--otlp-endpoint", &endpoint, "service", "rm", "traced"]);
}
