//! Traces of single requests, from goatctl through commit to the container's start, sent to a collector by OTLP.
//!
//! ```text
//! goatctl: the command ─► control API ─► [another manager's proposal ─►] commit ─► assignment ─► worker: create, pull, start
//! ```
//! A request is traced when whoever made it says so (W3C `traceparent`); all that follows hangs on that, and what nobody
//! asked to be traced costs a look at a header. Spans are at level TRACE of a target of their own, so that log lines do not
//! change.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::Error;

/// Of our spans.
pub const TARGET: &str = "goat_trace";
/// The header, and the key in messages, that carries a trace (W3C Trace Context).
pub const HEADER: &str = "traceparent";
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// For what is still to be sent when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where traces go, and who sends them.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `http://HOST:PORT` of a collector's OTLP over gRPC.
    pub endpoint: String,
    /// Of the program: `goat-manager`.
    pub service: &'static str,
    /// Which one of them; may be empty.
    pub instance: String,
}

/// Sends what is left when the program ends.
#[derive(Debug)]
#[must_use = "what is not yet sent is lost without `finish`"]
pub struct Tracing {
    provider: Option<SdkTracerProvider>,
}

impl Tracing {
    /// Waits a bounded time. A collector that is not there is nobody's failure.
    pub async fn finish(self) {
        if let Some(provider) = self.provider {
            let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        }
    }
}

pub(crate) fn layer<S>(traces: Option<&Traces>) -> Result<(Option<impl Layer<S> + use<S>>, Tracing), Error>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Some(traces) = traces else { return Ok((None, Tracing { provider: None })) };
    let bad = |problem: String| Error::Endpoint { endpoint: traces.endpoint.clone(), problem };
    let scheme = traces.endpoint.split("://").next();
    if scheme != Some("http") {
        // A collector runs beside the program; one that is farther away is behind it.
        return Err(bad("it is no http:// address".into()));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&traces.endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| bad(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(traces.service)
        .with_attribute(KeyValue::new("service.instance.id", traces.instance.clone()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource)
        .build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("goat"))
        .with_location(false)
        .with_threads(false)
        .with_filter(filter_fn(|metadata| metadata.target() == TARGET));
    Ok((Some(spans), Tracing { provider: Some(provider) }))
}

/// Whether there is a trace that goes on here.
pub fn is_traced(span: &Span) -> bool {
    span.context().span().span_context().is_valid()
}

/// What to send along, so that what comes of it belongs to this span's trace.
pub fn header(span: &Span) -> Option<String> {
    // Each commit asks, and nearly none is traced.
    if span.is_disabled() {
        return None;
    }
    let mut carrier = std::collections::HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(HEADER)
}

/// Adds it to a request's headers.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(Ok(value)) = header(&Span::current()).map(HeaderValue::try_from) {
        headers.insert(HeaderName::from_static(HEADER), value);
    }
}

/// What a request's headers say.
pub fn extract(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

/// The trace that a header tells of; none where it cannot be read.
pub fn read(header: &str) -> Option<Context> {
    let carrier = std::collections::HashMap::from([(HEADER.to_owned(), header.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.has_active_span().then_some(context)
}

/// Makes `span` go on with a trace.
pub fn follow(span: &Span, trace: Context) {
    // Refused only where nothing is sent at all.
    let _ = span.set_parent(trace);
}

/// A span below the current one where that is traced, and none where it is not.
#[macro_export]
macro_rules! child {
    ($name:literal $(, $($field:tt)*)?) => {
        if $crate::traces::is_traced(&::tracing::Span::current()) {
            ::tracing::trace_span!(target: $crate::traces::TARGET, $name $(, $($field)*)?)
        } else {
            ::tracing::Span::none()
        }
    };
}

/// A span that goes on with the trace of an `Option<&str>`, and none where there is none.
#[macro_export]
macro_rules! follow {
    ($header:expr, $name:literal $(, $($field:tt)*)?) => {
        match $header.and_then($crate::traces::read) {
            Some(trace) => {
                let span = ::tracing::trace_span!(target: $crate::traces::TARGET, parent: None, $name $(, $($field)*)?);
                $crate::traces::follow(&span, trace);
                span
            }
            None => ::tracing::Span::none(),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_cannot_be_read_begins_no_trace() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(read(good).is_some());
        let no_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in ["", "x", &good[..40], &good.replace("01", "0z"), no_trace] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }
}
