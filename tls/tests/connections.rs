//! Real connections between members, newcomers and strangers.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use goat_tls::credentials::Request;
use goat_tls::{
    Authority, Connector, Credentials, Incoming, JoinToken, Limits, Role, Share, Subject, Transport, Validity,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tower_service::Service;

const WITHIN: Duration = Duration::from_secs(5);
const STRANGERS: Share = Share::closing_oldest(4, 4);
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(5),
    handshakes: 8,
    handshake_min_age: Duration::ZERO,
    managers: Share::members(8, 8),
    workers: Share::members(8, 8),
    clients: Share::members(8, 8),
    strangers: STRANGERS,
    plaintext: Share::members(8, 8),
};
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
    call(&client, manager).await.expect("taken");
}

/// Says a word on each connection and keeps it open.
async fn keep(transport: Transport, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut incoming = Incoming::new(listener, transport, limits);
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                let _ = stream.write_all(b"in").await;
                // Until the other side, or a limit, closes it.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

/// A connection on which the server has spoken.
async fn open(connector: &Connector, address: SocketAddr) -> Result<goat_tls::connect::Stream, String> {
    let uri = format!("http://{address}").parse().expect("an address");
    let stream = connector.clone().call(uri).await.map_err(|error| error.to_string())?;
    let mut stream = stream.into_inner();
    let mut word = [0; 2];
    stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
    Ok(stream)
}

fn stranger(authority: &Authority) -> Connector {
    let secret = goat_tls::token::new_secret().expect("random");
    let token = JoinToken::new(Role::Worker, authority.digest(), secret);
    Connector::newcomer(&token, None, WITHIN).expect("a token")
}

/// Returns when the server has closed the connection.
async fn until_closed(stream: &mut goat_tls::connect::Stream) {
    let ended = tokio::time::timeout(WITHIN, stream.read_to_end(&mut Vec::new())).await;
    drop(ended.expect("it is closed"));
}

#[tokio::test]
async fn callers_that_say_nothing_keep_nobody_out() {
    let authority = authority();
    // Longer than the test may last: a silent caller has to make room.
    let limits = Limits { handshakes: 2, handshake: HOUR, handshake_min_age: HOUR, ..LIMITS };
    let address = keep(transport(&authority, Role::Manager), limits).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(address).await.expect("it listens"));
    }
    let client = connector(transport(&authority, Role::Client), Role::Manager);
    open(&client, address).await.expect("in");
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_closed_after_the_time_for_a_handshake() {
    let authority = authority();
    let limits = Limits { handshake: Duration::from_millis(100), ..LIMITS };
    let address = keep(transport(&authority, Role::Manager), limits).await;
    let mut silent = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let closed = tokio::time::timeout(WITHIN, silent.read_to_end(&mut Vec::new())).await;
    assert_eq!(closed.expect("it is closed").expect("without an error"), 0);
}

#[tokio::test]
async fn strangers_take_no_place_from_members() {
    let authority = authority();
    let address = keep(transport(&authority, Role::Manager), LIMITS).await;
    let stranger = stranger(&authority);
    let mut strangers = Vec::new();
    for _ in 0..2 * STRANGERS.places {
        strangers.push(open(&stranger, address).await.expect("a stranger gets in"));
    }
    for closed in &mut strangers[..STRANGERS.places] {
        until_closed(closed).await;
    }
    for role in Role::ALL {
        open(&connector(transport(&authority, role), Role::Manager), address).await.expect("a member gets in");
    }
}

#[tokio::test]
async fn a_strangers_connection_has_an_end() {
    let authority = authority();
    let strangers = Share { lifetime: Some(Duration::from_millis(100)), ..STRANGERS };
    let address = keep(transport(&authority, Role::Manager), Limits { strangers, ..LIMITS }).await;
    until_closed(&mut open(&stranger(&authority), address).await.expect("it gets in")).await;
}

#[tokio::test]
async fn a_class_without_places_is_refused() {
    let authority = authority();
    let limits = Limits { strangers: Share::CLOSED, clients: Share::CLOSED, ..LIMITS };
    let address = keep(transport(&authority, Role::Worker), limits).await;
    let client = connector(transport(&authority, Role::Client), Role::Worker);
    open(&client, address).await.expect_err("users have no business here");
    let manager = connector(transport(&authority, Role::Manager), Role::Worker);
    open(&manager, address).await.expect("managers have");
}

#[tokio::test]
async fn a_member_with_too_many_connections_loses_its_own_oldest() {
    let authority = authority();
    let limits = Limits { workers: Share::members(8, 2), ..LIMITS };
    let address = keep(transport(&authority, Role::Manager), limits).await;
    let worker = connector(transport(&authority, Role::Worker), Role::Manager);
    let mut oldest = open(&worker, address).await.expect("room");
    let mut newer = [open(&worker, address).await.expect("room"), open(&worker, address).await.expect("room")];
    until_closed(&mut oldest).await;
    let silence = tokio::time::timeout(Duration::from_millis(50), newer[0].read_u8()).await;
    assert!(silence.is_err(), "the newer ones stay: {silence:?}");
}
