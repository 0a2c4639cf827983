//! Lists, however many pages they come in.

use goat_proto::v1;

use super::Client;
use crate::error::Error;

/// The pages of one list.
macro_rules! whole {
    ($client:ident, $request:ident, $call:ident, $rows:ident, $what:literal) => {{
        let (mut request, mut rows) = ($request, Vec::new());
        loop {
            let call = |mut control: super::Control, request| async move { control.$call(request).await };
            let page = $client.call($what, request.clone(), call).await?;
            rows.extend(page.$rows);
            if page.next.is_empty() {
                return Ok(rows);
            }
            request.page = page.next;
        }
    }};
}

impl Client {
    pub async fn list_tasks(&self, request: v1::ListTasksRequest) -> Result<Vec<v1::Task>, Error> {
        whole!(self, request, list_tasks, tasks, "list tasks")
    }

    pub async fn list_nodes(&self, request: v1::ListNodesRequest) -> Result<Vec<v1::Node>, Error> {
        whole!(self, request, list_nodes, nodes, "list nodes")
    }

    /// Those that are being removed included.
    pub async fn list_services(&self, request: v1::ListServicesRequest) -> Result<Vec<v1::Service>, Error> {
        whole!(self, request, list_services, services, "list services")
    }
}
