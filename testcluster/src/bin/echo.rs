//! echo, the example workload: answers with what it was sent, and misbehaves on purpose when told to.
//!
//! Small on purpose: the standard library, and nix for SIGTERM (the first process of a container has no default for it).
//! Linked statically it is the only file of its image. It must not grow into a web server.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

const HELP: &str = "\
echo: answers POST with the body that it was sent, and misbehaves when told to

Usage: echo [OPTIONS]

Options (each also as a variable: --wait-for is ECHO_WAIT_FOR):
  --host HOST            where to listen [default: GOAT_HOST, else 127.0.0.1]
  --port PORT            where to listen, 0: any free port [default: GOAT_PORT, else 0]
  --wait-for HOST:PORT   answer 503 until a connection there succeeds; tried again after 100 ms, 200 ms, ... 5 s
  --crash-at-start CODE  exit with CODE instead of starting
  --crash-after N        exit with code 1 on the N-th request (/healthz does not count)
  --hang-after N         answer nothing any more from the N-th request on (/healthz does not count)
  --eat-memory MIB       take that much memory at start, and keep it
  -h, --help             print this

Requests:
  POST /                 200, the same body and content type
  GET  /healthz          200; 503 while waiting
  GET  /whoami           200, JSON: task, slot, node, service, pid
  POST /exit?code=N      exit with code N
  POST /crash            die of SIGABRT
  POST /hang             answer nothing any more, on any path
  POST /eat?mib=N        take N MiB of memory, and keep them

Exit codes: 0 after SIGTERM or SIGINT, 1 cannot listen, 2 wrong options
";

const MAX_HEAD_BYTES: u64 = 16 << 10;
const MAX_BODY_BYTES: usize = 10 << 20;
const MAX_CONNECTIONS: usize = 256;
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Options {
    host: String,
    port: u16,
    wait_for: Option<String>,
    crash_at_start: Option<u8>,
    crash_after: Option<u64>,
    hang_after: Option<u64>,
    eat_memory_mib: Option<usize>,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut given = std::collections::HashMap::new();
        while let Some(arg) = args.next() {
            if arg == "-h" || arg == "--help" {
                return Ok(None);
            }
            let name = arg.strip_prefix("--").ok_or_else(|| format!("{arg:?} is not an option"))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.to_owned(), None),
            };
            if !NAMES.contains(&name.as_str()) {
                return Err(format!("there is no option --{name}"));
            }
            let value = value.or_else(|| args.next()).ok_or_else(|| format!("--{name} needs a value"))?;
            given.insert(name, value);
        }
        let get = |name: &str| {
            let variable = format!("ECHO_{}", name.replace('-', "_").to_uppercase());
            given.get(name).cloned().or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
        };
        let env = |name: &str| std::env::var(name).ok();
        Ok(Some(Self {
            host: get("host").or_else(|| env("GOAT_HOST")).unwrap_or_else(|| "127.0.0.1".into()),
            port: number("port", get("port").or_else(|| env("GOAT_PORT")))?.unwrap_or(0),
            wait_for: get("wait-for"),
            crash_at_start: number("crash-at-start", get("crash-at-start"))?,
            crash_after: number("crash-after", get("crash-after"))?,
            hang_after: number("hang-after", get("hang-after"))?,
            eat_memory_mib: number("eat-memory", get("eat-memory"))?,
        }))
    }
}

const NAMES: [&str; 7] = ["host", "port", "wait-for", "crash-at-start", "crash-after", "hang-after", "eat-memory"];

fn number<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<Option<T>, String> {
    value.map(|text| text.parse().map_err(|_| format!("--{name}: {text:?} is not a number that fits"))).transpose()
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("echo: {problem}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    if let Some(code) = options.crash_at_start {
        eprintln!("echo: crashing at start with code {code}, as told");
        return ExitCode::from(code);
    }
    // Before there are threads, which inherit it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    if let Err(error) = signals.thread_block() {
        eprintln!("echo: signals cannot be blocked: {error}");
        return ExitCode::FAILURE;
    }
    std::thread::spawn(move || {
        eprintln!("echo: ending on {}", signals.wait().map_or("a signal", Signal::as_str));
        std::process::exit(0);
    });
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Echo {
    options: Options,
    is_waiting: AtomicBool,
    is_hanging: AtomicBool,
    requests: AtomicU64,
    connections: AtomicUsize,
}

fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind((options.host.as_str(), options.port)).map_err(|error| {
        let hint = "free the port or give another with --port";
        io::Error::new(error.kind(), format!("cannot listen on {}:{}: {error}; {hint}", options.host, options.port))
    })?;
    eprintln!("echo: listening on {}", listener.local_addr()?);
    eat(options.eat_memory_mib.unwrap_or(0));
    let echo = Arc::new(Echo {
        is_waiting: AtomicBool::new(options.wait_for.is_some()),
        options,
        is_hanging: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        connections: AtomicUsize::new(0),
    });
    if echo.options.wait_for.is_some() {
        let echo = echo.clone();
        std::thread::spawn(move || wait_for(&echo));
    }
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // Out of file descriptors, usually: some connection will end.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if echo.connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            echo.connections.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.set_write_timeout(Some(CONNECT));
            let _ = respond(&mut stream, &Answer::text(503, "too many connections\n"), false);
            continue;
        }
        let echo = echo.clone();
        std::thread::spawn(move || {
            let _ = converse(&echo, &stream);
            let _ = stream.shutdown(Shutdown::Both);
            echo.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn wait_for(echo: &Echo) {
    let Some(address) = &echo.options.wait_for else { return };
    let mut backoff = BACKOFF_FIRST;
    loop {
        let reached = address.to_socket_addrs().and_then(|mut found| {
            let found = found.next().ok_or_else(|| io::Error::other("the name has no address"))?;
            TcpStream::connect_timeout(&found, CONNECT)
        });
        match reached {
            Ok(_) => {
                eprintln!("echo: {address} is there");
                echo.is_waiting.store(false, Ordering::SeqCst);
                return;
            }
            Err(error) => eprintln!("echo: waiting for {address}: {error}; next try in {} ms", backoff.as_millis()),
        }
        std::thread::sleep(backoff);
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

/// Takes memory that is really there: every page is written to.
fn eat(mib: usize) {
    if mib > 0 {
        let bytes: Vec<u8> = (0..mib << 20).map(|at| at as u8).collect();
        eprintln!("echo: took {mib} MiB");
        std::mem::forget(bytes);
    }
}

#[derive(Debug)]
struct Asked {
    method: String,
    path: String,
    query: String,
    content_type: String,
    body: Vec<u8>,
    keeps_alive: bool,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain".into(), body: text.as_bytes().to_vec() }
    }
}

/// Requests of one connection, one after the other.
fn converse(echo: &Echo, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let asked = match read(&mut reader, stream)? {
            None => return Ok(()),
            Some(Ok(asked)) => asked,
            // What follows cannot be told from the rest of this request.
            Some(Err(answer)) => return respond(&mut &*stream, &answer, false),
        };
        let answer = echo.answer(&asked);
        if echo.is_hanging.load(Ordering::SeqCst) {
            loop {
                std::thread::park();
            }
        }
        respond(&mut &*stream, &answer, asked.keeps_alive)?;
        if !asked.keeps_alive {
            return Ok(());
        }
    }
}

/// None: the client has closed the connection. An inner error is the answer to a request that is not understood.
fn read(reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream) -> io::Result<Option<Result<Asked, Answer>>> {
    let refuse = |status, text| Ok(Some(Err(Answer::text(status, text))));
    let mut head = reader.by_ref().take(MAX_HEAD_BYTES);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [method, target, version] = words[..] else {
        return refuse(400, "not an HTTP request\n");
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut asked = Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: "application/octet-stream".into(),
        body: Vec::new(),
        keeps_alive: version == "HTTP/1.1",
    };
    let (mut length, mut expects) = (0, false);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return refuse(431, "the request's head is over 16 KiB, or incomplete\n");
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return refuse(400, "a header without a colon\n");
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => match value.parse::<usize>() {
                Ok(bytes) => length = bytes,
                Err(_) => return refuse(400, "content-length is not a number\n"),
            },
            "content-type" => asked.content_type = value.to_owned(),
            "connection" => asked.keeps_alive = !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => return refuse(411, "send a content-length; chunks are not understood\n"),
            "expect" => expects = true,
            _ => {}
        }
    }
    if length > MAX_BODY_BYTES {
        return refuse(413, "the body is over 10 MiB\n");
    }
    if expects {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body)?;
    Ok(Some(Ok(asked)))
}

fn respond(stream: &mut impl Write, answer: &Answer, keeps_alive: bool) -> io::Result<()> {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let connection = if keeps_alive { "keep-alive" } else { "close" };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&answer.body);
    stream.write_all(&bytes)
}

impl Echo {
    fn answer(&self, asked: &Asked) -> Answer {
        let is_waiting = self.is_waiting.load(Ordering::SeqCst);
        if asked.path == "/healthz" {
            return if is_waiting { Answer::text(503, "waiting\n") } else { Answer::text(200, "ok\n") };
        }
        let nth = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if self.options.crash_after == Some(nth) {
            eprintln!("echo: crashing on request {nth}, as told");
            std::process::exit(1);
        }
        if self.options.hang_after.is_some_and(|after| nth >= after) {
            self.is_hanging.store(true, Ordering::SeqCst);
        }
        if is_waiting {
            return Answer::text(503, "waiting for a dependency\n");
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/") => Answer { status: 200, content_type: asked.content_type.clone(), body: asked.body.clone() },
            ("GET", "/") => Answer::text(200, "POST something here, and it comes back; echo --help lists the rest\n"),
            ("GET", "/whoami") => Answer { status: 200, content_type: "application/json".into(), body: whoami() },
            ("POST", path) => self.misbehave(path, &asked.query),
            (_, "/" | "/whoami" | "/exit" | "/crash" | "/hang" | "/eat") => Answer::text(405, "not this method\n"),
            _ => Answer::text(404, "no such path; echo --help lists them\n"),
        }
    }

    fn misbehave(&self, path: &str, query: &str) -> Answer {
        let value = |name: &str| {
            let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
            pair.and_then(|(_, value)| value.parse::<usize>().ok())
        };
        match path {
            "/exit" => match value("code").unwrap_or(0) {
                code @ 0..=255 => {
                    eprintln!("echo: exiting with code {code}, as asked");
                    std::process::exit(code as i32)
                }
                _ => Answer::text(400, "code is from 0 to 255\n"),
            },
            "/crash" => std::process::abort(),
            "/hang" => {
                self.is_hanging.store(true, Ordering::SeqCst);
                Answer::text(200, "")
            }
            "/eat" => match value("mib") {
                Some(mib @ 1..=65_536) => {
                    eat(mib);
                    Answer::text(200, "eaten\n")
                }
                _ => Answer::text(400, "say how much: /eat?mib=64\n"),
            },
            _ => Answer::text(404, "no such path; echo --help lists them\n"),
        }
    }
}

fn whoami() -> Vec<u8> {
    let get = |name: &str| {
        let value = std::env::var(name).unwrap_or_default();
        value.replace(['"', '\\'], "_").replace(char::is_control, "_")
    };
    let (task, service, slot, node) = (get("GOAT_TASK_ID"), get("GOAT_SERVICE"), get("GOAT_SLOT"), get("GOAT_NODE"));
    let pid = std::process::id();
    format!("{{\"task\":\"{task}\",\"service\":\"{service}\",\"slot\":\"{slot}\",\"node\":\"{node}\",\"pid\":{pid}}}\n")
        .into_bytes()
}
