//! Lists, however many pages they come in. Each page has the time of one request.

use goat_proto::v1::{
    ListNodesReply, ListNodesRequest, ListServicesReply, ListServicesRequest, ListTasksReply, ListTasksRequest,
};

use super::Client;
use crate::exit::Failure;

/// The pages of one list, put into the first reply.
macro_rules! whole {
    ($client:ident, $request:ident, $call:ident, $rows:ident) => {{
        let mut request = $request;
        let mut whole = $client.unary(request.clone(), async |control, request| control.$call(request).await).await?;
        while !whole.next.is_empty() {
            request.page = std::mem::take(&mut whole.next);
            let more = $client.unary(request.clone(), async |control, request| control.$call(request).await).await?;
            whole.$rows.extend(more.$rows);
            whole.next = more.next;
        }
        Ok(whole)
    }};
}

impl Client {
    pub async fn list_tasks(&self, request: ListTasksRequest) -> Result<ListTasksReply, Failure> {
        whole!(self, request, list_tasks, tasks)
    }

    /// As [`Client::list_tasks`], and None where the service is not there.
    pub async fn find_tasks(&self, request: ListTasksRequest) -> Result<Option<ListTasksReply>, Failure> {
        let first = self.find(request.clone(), async |control, request| control.list_tasks(request).await).await?;
        match first {
            None => Ok(None),
            Some(first) if first.next.is_empty() => Ok(Some(first)),
            Some(_) => self.list_tasks(request).await.map(Some),
        }
    }

    pub async fn list_services(&self, request: ListServicesRequest) -> Result<ListServicesReply, Failure> {
        whole!(self, request, list_services, services)
    }

    pub async fn list_nodes(&self, request: ListNodesRequest) -> Result<ListNodesReply, Failure> {
        whole!(self, request, list_nodes, nodes)
    }
}
