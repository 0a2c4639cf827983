//! `cluster join-token`, `cluster ca`, `cluster issue-client`: who may belong to the cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goat_proto::v1::{
    GetAuthorityReply, GetAuthorityRequest, GetJoinTokenRequest, IssueClientRequest, RotateAuthorityRequest,
};
use goat_tls::credentials::Request;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Context, context};
use crate::cli::{CaCommand, Joining, WaitFlags};
use crate::client::request_id;
use crate::exit::{Exit, Failure, say};

const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn join_token(context: &Context, role: Joining, rotate: bool, quiet: bool) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let role = role.word();
    let request = GetJoinTokenRequest { request_id: request_id(), role: role.into(), rotate };
    let reply = client.identity(request, async |identity, request| identity.get_join_token(request).await).await?;
    if out.is_json() {
        return out.json(&json!({ "role": role, "token": reply.token }));
    }
    if !quiet {
        let address = client.answered_by();
        say(&format!(
            "on the new machine, with this token in the file TOKEN (whoever has it can join as a {role}):\n  goat-{role} join \
             --token-file TOKEN --data-dir DIR {address}"
        ));
    }
    out.line(format_args!("{}", reply.token))
}

pub async fn ca(context: &Context, command: Option<CaCommand>, file: Option<&Path>) -> Result<(), Failure> {
    match command {
        None => print(context, &look(context).await?),
        Some(CaCommand::Rotate { wait }) => rotate(context, &wait, file).await,
    }
}

async fn look(context: &Context) -> Result<GetAuthorityReply, Failure> {
    let request = GetAuthorityRequest {};
    context.client.identity(request, async |identity, request| identity.get_authority(request).await).await
}

fn print(context: &Context, authority: &GetAuthorityReply) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(&json!({
            "signer": authority.signer, "believed": authority.believed, "rotation": authority.rotation,
            "waiting_for": authority.waiting_for,
        }));
    }
    let rotation = match authority.rotation.as_str() {
        "none" => String::new(),
        "announced" => "a new authority is announced; members come to believe it".to_owned(),
        _ => "the new authority signs; members renew their certificates".to_owned(),
    };
    let page: Vec<(&str, String)> = [
        ("Signs", authority.signer.clone()),
        ("Believed", authority.believed.join("\n")),
        ("Rotation", rotation),
        ("Waiting for", authority.waiting_for.join(", ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    context.out.page(&page)
}

pub async fn rotate(context: &Context, wait: &WaitFlags, file: Option<&Path>) -> Result<(), Failure> {
    let client = &context.client;
    let request = RotateAuthorityRequest { request_id: request_id() };
    let begun = client.identity(request, async |identity, request| identity.rotate_authority(request).await).await?;
    if wait.detach {
        return print(context, &begun);
    }
    say("a rotation has begun; Ctrl-C leaves it going on by itself");
    let new = begun.believed.last().cloned().unwrap_or_default();
    let deadline = Instant::now() + wait.wait_timeout;
    let (mut told, mut is_renewed) = (String::new(), false);
    loop {
        let now = look(context).await?;
        // Else this user would be left behind with the old authority.
        if !is_renewed
            && now.signer == new
            && let Some(file) = file
        {
            context::renewed(context, file).await?;
            say(&format!("renewed {}", file.display()));
            is_renewed = true;
            // The connections there are were made with the old one.
            client.reconnect(file)?;
        }
        if now.rotation == "none" && now.signer == new {
            context.out.line(format_args!("{new}  signs alone from now on"))?;
            return Ok(());
        }
        let text = format!("{}, waiting for {}", now.rotation, now.waiting_for.join(", "));
        if text != told && !now.waiting_for.is_empty() {
            say(&text);
            told = text;
        }
        if Instant::now() >= deadline {
            return Err(still_waiting(&now));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn still_waiting(authority: &GetAuthorityReply) -> Failure {
    let message = format!("the rotation still waits for {}", authority.waiting_for.join(", "));
    Failure::new(Exit::TimedOut, message)
        .with_hint("it goes on when they are there, or are removed; look with `goatctl cluster ca`")
}

pub async fn issue_client(context: &Context, name: String, file: PathBuf) -> Result<(), Failure> {
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already", file.display())));
    }
    let failed = |error: goat_tls::Error| Failure::failed(error.to_string());
    let own = Request::new().map_err(failed)?;
    let request = IssueClientRequest { name: name.clone(), certificate_request: own.as_bytes().to_vec().into() };
    let reply =
        context.client.identity(request, async |identity, request| identity.issue_client(request).await).await?;
    let credentials = own.answered(&reply.certificate, &reply.authorities).map_err(failed)?;
    credentials.store(&file).map_err(failed)?;
    context.out.line(format_args!("{name}  {}", file.display()))
}
