//! Join tokens.

use goat_proto::v1;
use tokio::time::Instant;

use super::{BACKOFF, Client, is_passing, request_id};
use crate::error::Error;

impl Client {
    /// A token with which a member of that role joins.
    pub async fn join_token(&self, role: &str) -> Result<String, Error> {
        let request = v1::GetJoinTokenRequest { request_id: request_id(), role: role.to_owned(), rotate: false };
        let deadline = Instant::now() + self.within;
        for at in (0..self.identities.len()).cycle() {
            let mut identity = self.identities[at].clone();
            match tokio::time::timeout(self.attempt, identity.get_join_token(request.clone())).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner().token),
                Ok(Err(status)) if !is_passing(&status) || Instant::now() >= deadline => {
                    return Err(Error::Refused { what: "join token", status: Box::new(status) });
                }
                Err(_) if Instant::now() >= deadline => {
                    return Err(Error::failed("no manager gives a join token in time"));
                }
                _ => tokio::time::sleep(BACKOFF).await,
            }
        }
        Err(Error::failed("there is no manager to ask"))
    }
}
