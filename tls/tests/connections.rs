//! Real connections between members, newcomers and strangers.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use goat_tls::credentials::Request;
use goat_tls::{Authority, Connector, Credentials, Incoming, JoinToken, Limits, Role, Subject, Transport, Validity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tower_service::Service;

const WITHIN: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits { connections: 8, handshake: Duration::from_secs(5) };
const HOUR: Duration = Duration::from_secs(3_600);

fn authority() -> Authority {
    Authority::new("c1", SystemTime::now()).expect("an authority is made")
}

fn credentials_at(authority: &Authority, role: Role, now: SystemTime, lasting: Duration) -> Credentials {
    let request = Request::new().expect("a key is made");
    let subject = Subject { role, id: "7".into(), cluster: "c1".into() };
    let certificate = authority.sign(request.as_bytes(), &subject, Validity::lasting(now, lasting)).expect("signed");
    request.answered(&certificate, authority.certificate()).expect("they fit")
}

fn credentials(authority: &Authority, role: Role) -> Credentials {
    credentials_at(authority, role, SystemTime::now(), HOUR)
}

fn transport(authority: &Authority, role: Role) -> Transport {
    Transport::new(credentials(authority, role)).expect("they fit")
}

/// Answers each caller with who it is taken for.
async fn serve(transport: Transport) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut incoming = Incoming::new(listener, transport, LIMITS);
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = incoming.next().await {
            let caller = stream.connect_info();
            let name = match (caller.subject, caller.outdated) {
                (Some(subject), None) => subject.to_string(),
                (None, Some(outdated)) => format!("outdated {outdated}"),
                _ => "nobody".to_owned(),
            };
            let _ = stream.write_all(name.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

async fn call(connector: &Connector, address: SocketAddr) -> Result<String, String> {
    let uri = format!("http://{address}").parse().expect("an address");
    let stream = connector.clone().call(uri).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.into_inner().read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    Ok(answer)
}

fn connector(transport: Transport, role: Role) -> Connector {
    Connector::new(transport, role, None, WITHIN)
}

#[tokio::test]
async fn members_know_each_other() {
    let authority = authority();
    let manager = serve(transport(&authority, Role::Manager)).await;
    for role in Role::ALL {
        let answer = call(&connector(transport(&authority, role), Role::Manager), manager).await;
        assert_eq!(answer.expect("a member"), format!("{role} 7 of cluster c1"));
    }
}

#[tokio::test]
async fn a_worker_cannot_pass_for_a_manager() {
    let authority = authority();
    let worker = serve(transport(&authority, Role::Worker)).await;
    let error =
        call(&connector(transport(&authority, Role::Client), Role::Manager), worker).await.expect_err("refused");
    assert!(error.contains("not a manager's"), "{error}");
}

#[tokio::test]
async fn members_of_another_cluster_are_refused_by_both_sides() {
    let (authority, other) = (authority(), authority());
    let manager = serve(transport(&authority, Role::Manager)).await;
    let error = call(&connector(transport(&other, Role::Manager), Role::Manager), manager).await.expect_err("refused");
    assert!(error.contains("another cluster's authority"), "{error}");
    // One that believes both, and is signed by the wrong one.
    let both = format!("{}{}", authority.certificate(), other.certificate());
    let stranger = credentials(&other, Role::Manager).believing(&both).expect("they fit");
    let stranger = Transport::new(stranger).expect("they fit");
    let error = call(&connector(stranger, Role::Manager), manager).await.expect_err("refused");
    assert!(error.contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn certificates_count_only_in_their_time() {
    let authority = authority();
    let day = 24 * HOUR;
    let (past, future) = (SystemTime::now() - day, SystemTime::now() + day);
    for (now, what) in [(past, "has expired"), (future, "not valid yet")] {
        let old = Transport::new(credentials_at(&authority, Role::Manager, now, HOUR)).expect("they fit");
        let manager = serve(old.clone()).await;
        let client = transport(&authority, Role::Client);
        let error = call(&connector(client, Role::Manager), manager).await.expect_err("refused");
        assert!(error.contains(what), "{error}");

        let manager = serve(transport(&authority, Role::Manager)).await;
        call(&connector(old, Role::Manager), manager).await.expect_err("refused");
    }
    // A clock that is an hour off is not refused a fresh certificate.
    for now in [SystemTime::now() - HOUR, SystemTime::now() + HOUR] {
        let fresh = Transport::new(credentials_at(&authority, Role::Client, now, 90 * day)).expect("they fit");
        let manager = serve(transport(&authority, Role::Manager)).await;
        call(&connector(fresh, Role::Manager), manager).await.expect("taken");
    }
}

#[tokio::test]
async fn an_outdated_worker_is_told_from_others_and_nobody_else_is_let_in() {
    let (authority, other) = (self::authority(), self::authority());
    let manager = serve(transport(&authority, Role::Manager)).await;
    let both = format!("{}{}", authority.certificate(), other.certificate());
    let day = 24 * HOUR;
    for now in [SystemTime::now() - 500 * day, SystemTime::now() + 500 * day] {
        let shown = async |authority: &Authority, role| {
            let old = credentials_at(authority, role, now, 90 * day).believing(&both).expect("they fit");
            call(&connector(Transport::new(old).expect("they fit"), Role::Manager), manager).await
        };
        assert_eq!(shown(&authority, Role::Worker).await.expect("let in"), "outdated worker 7 of cluster c1");
        for role in [Role::Manager, Role::Client] {
            shown(&authority, role).await.expect_err("only workers are");
        }
        shown(&other, Role::Worker).await.expect_err("of another authority");
    }
}

#[tokio::test]
async fn a_newcomer_believes_the_authority_of_its_token_only() {
    let authority = authority();
    let manager = serve(transport(&authority, Role::Manager)).await;
    let secret = goat_tls::token::new_secret().expect("random");
    let token = JoinToken::new(Role::Worker, authority.digest(), secret.clone());
    let newcomer = Connector::newcomer(&token, None, WITHIN).expect("a token");
    assert_eq!(call(&newcomer, manager).await.expect("the right authority"), "nobody");

    let wrong = JoinToken::new(Role::Worker, self::authority().digest(), secret);
    let newcomer = Connector::newcomer(&wrong, None, WITHIN).expect("a token");
    let error = call(&newcomer, manager).await.expect_err("refused");
    assert!(error.contains("join-token"), "{error}");
}

#[tokio::test]
async fn credentials_are_replaced_under_a_listener() {
    let (old, new) = (authority(), authority());
    let server = transport(&old, Role::Manager);
    let manager = serve(server.clone()).await;
    let client = connector(transport(&new, Role::Client), Role::Manager);
    call(&client, manager).await.expect_err("another authority");
    server.replace(credentials(&new, Role::Manager)).expect("they fit");
    call(&client, manager).await.expect("the same authority");
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_and_refused() {
    let authority = authority();
    let client = connector(transport(&authority, Role::Client), Role::Manager);
    let plain = serve(Transport::plaintext()).await;
    let error = call(&client, plain).await.expect_err("refused");
    assert!(error.contains("--plaintext"), "{error}");

    let manager = serve(transport(&authority, Role::Manager)).await;
    let mut stream = tokio::net::TcpStream::connect(manager).await.expect("it listens");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An alert, or nothing: no name.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("nobody"));
    // And others still get in.
    call(&client, manager).await.expect("taken");
}

#[tokio::test]
async fn callers_that_say_nothing_keep_nobody_out_for_long() {
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let limits = Limits { connections: 2, handshake: Duration::from_millis(200) };
    let mut incoming = Incoming::new(listener, transport(&authority, Role::Manager), limits);
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = incoming.next().await {
            let _ = stream.write_all(b"in").await;
            let _ = stream.shutdown().await;
        }
    });
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(address).await.expect("it listens"));
    }
    let client = connector(transport(&authority, Role::Client), Role::Manager);
    assert_eq!(call(&client, address).await.expect("in the end"), "in");
}
