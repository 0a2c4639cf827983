//! The supervisor's control socket, both ends: a line of JSON is asked, a line of JSON is answered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::cluster::{Cluster, MemberStatus};
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::taskset::TaskSet;

const MAX_LINE_BYTES: u64 = 64 << 10;
/// Above the longest that anything takes: stopping a member by SIGTERM.
const ANSWER: Duration = Duration::from_secs(30);

/// What can be asked of a supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Ask {
    Status,
    Kill {
        name: String,
        with_tasks: bool,
    },
    Stop {
        name: String,
    },
    /// `binaries`: where its program is, if not where those of the others are.
    Start {
        name: String,
        #[serde(default)]
        binaries: Option<PathBuf>,
    },
    /// Makes a group of that manager alone, which does not run.
    Recover {
        name: String,
    },
    /// Makes the cluster again out of a saved file, with that manager, whose directory is emptied.
    Restore {
        name: String,
        file: PathBuf,
    },
    /// With an empty directory.
    Join {
        name: String,
    },
    Freeze {
        name: String,
    },
    Thaw {
        name: String,
    },
    Cut {
        from: String,
        to: String,
        one_way: bool,
    },
    Delay {
        from: String,
        to: String,
        one_way: bool,
        delay_ms: u64,
    },
    Heal,
    /// Answered when everything is down.
    Down {
        keep: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub layout: Layout,
    pub members: Vec<MemberStatus>,
    /// Links that are cut or delayed.
    pub links: Vec<String>,
    /// The supervisor.
    pub pid: u32,
    /// Whether everything that `up` does at the start is done.
    pub is_ready: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done,
    Status(Box<Status>),
    Refused { problem: String, is_usage: bool },
}

/// Serves the socket until `tasks` are stopped. `down` is cancelled when asked to take the cluster down.
pub fn serve(cluster: Arc<Cluster>, tasks: &TaskSet, down: &CancellationToken) -> Result<(), Error> {
    let path = cluster.layout().control_socket();
    let listener = UnixListener::bind(&path).map_err(Error::io("listen on", &path))?;
    let (conversations, down) = (tasks.clone(), down.clone());
    tasks.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (cluster, down) = (cluster.clone(), down.clone());
            conversations.spawn(async move {
                // Who asks and leaves gets no answer.
                let _ = converse(&cluster, stream, &down).await;
            });
        }
    });
    Ok(())
}

async fn converse(cluster: &Cluster, stream: UnixStream, down: &CancellationToken) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        if (&mut reader).take(MAX_LINE_BYTES).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(Ask::Down { keep }) => {
                let result = cluster.down(keep).await;
                let answer = answered(result);
                writer.write_all(&line_of(&answer)).await?;
                down.cancel();
                return Ok(());
            }
            Ok(ask) => perform(cluster, ask).await,
            Err(error) => Answer::Refused { problem: format!("not understood: {error}"), is_usage: true },
        };
        writer.write_all(&line_of(&answer)).await?;
    }
}

fn line_of(answer: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).expect("it is plain data");
    line.push(b'\n');
    line
}

fn answered(result: Result<(), Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Refused { problem: error.to_string(), is_usage: matches!(error, Error::Usage(_)) },
    }
}

async fn perform(cluster: &Cluster, ask: Ask) -> Answer {
    answered(match ask {
        Ask::Status => {
            let status = Status {
                layout: cluster.layout().clone(),
                members: cluster.status().await,
                links: cluster.links().describe(),
                pid: std::process::id(),
                is_ready: cluster.is_ready(),
            };
            return Answer::Status(Box::new(status));
        }
        Ask::Kill { name, with_tasks } => cluster.kill(&name, with_tasks).await,
        Ask::Stop { name } => cluster.stop(&name).await,
        Ask::Start { name, binaries: None } => cluster.start(&name).await,
        Ask::Start { name, binaries: Some(binaries) } => cluster.start_from(&binaries, &name).await,
        Ask::Recover { name } => cluster.recover(&name).await,
        Ask::Restore { name, file } => cluster.restore(&name, &file).await,
        Ask::Join { name } => cluster.join(&name).await,
        Ask::Freeze { name } => cluster.freeze(&name).await,
        Ask::Thaw { name } => cluster.thaw(&name).await,
        Ask::Cut { from, to, one_way } => cluster.cut(&from, &to, one_way),
        Ask::Delay { from, to, one_way, delay_ms } => {
            cluster.delay(&from, &to, one_way, Duration::from_millis(delay_ms))
        }
        Ask::Heal => {
            cluster.heal();
            Ok(())
        }
        Ask::Down { .. } => unreachable!("the caller takes it"),
    })
}

/// A running cluster, from any process.
#[derive(Debug, Clone)]
pub struct Remote {
    socket: PathBuf,
    layout: Layout,
}

impl Remote {
    /// Finds the cluster that runs in `dir`.
    pub async fn open(dir: &Path) -> Result<Self, Error> {
        let socket = layout::control_socket(dir);
        match ask(&socket, &Ask::Status).await? {
            Answer::Status(status) => Ok(Self { socket, layout: status.layout }),
            other => Err(Error::failed(format!("the supervisor's answer makes no sense: {other:?}"))),
        }
    }

    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn client(&self) -> Result<Client, Error> {
        Client::new(&self.layout.addresses(), &self.layout.credentials())
    }

    pub async fn status(&self) -> Result<Status, Error> {
        match ask(&self.socket, &Ask::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(Error::failed(format!("the supervisor's answer makes no sense: {other:?}"))),
        }
    }

    /// Has something done, and waits until it is.
    pub async fn ask(&self, what: &Ask) -> Result<(), Error> {
        ask(&self.socket, what).await.map(drop)
    }

    pub async fn kill(&self, name: &str, with_tasks: bool) -> Result<(), Error> {
        self.ask(&Ask::Kill { name: name.to_owned(), with_tasks }).await
    }

    pub async fn stop(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Stop { name: name.to_owned() }).await
    }

    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Start { name: name.to_owned(), binaries: None }).await
    }

    /// Lets a manager join that does not run, with an empty directory, and starts it.
    pub async fn join(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Join { name: name.to_owned() }).await
    }

    /// Makes a group of a manager alone that does not run, as after the loss of all others.
    pub async fn recover(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Recover { name: name.to_owned() }).await
    }

    /// Makes the cluster again out of a saved file, with a manager that does not run, and starts it.
    pub async fn restore(&self, name: &str, file: &Path) -> Result<(), Error> {
        self.ask(&Ask::Restore { name: name.to_owned(), file: file.to_owned() }).await
    }

    pub async fn freeze(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Freeze { name: name.to_owned() }).await
    }

    pub async fn thaw(&self, name: &str) -> Result<(), Error> {
        self.ask(&Ask::Thaw { name: name.to_owned() }).await
    }

    /// Cuts what goes from each of the ones to each of the others, and back unless `one_way`; how many links that are.
    pub async fn cut(&self, ones: &[String], others: &[String], one_way: bool) -> Result<usize, Error> {
        for (from, to) in ones.iter().flat_map(|from| others.iter().map(move |to| (from, to))) {
            self.ask(&Ask::Cut { from: from.clone(), to: to.clone(), one_way }).await?;
        }
        Ok(ones.len() * others.len())
    }

    pub async fn heal(&self) -> Result<(), Error> {
        self.ask(&Ask::Heal).await
    }
}

async fn ask(socket: &Path, what: &Ask) -> Result<Answer, Error> {
    let nobody = || {
        let dir = socket.parent().unwrap_or(Path::new("/")).display();
        Error::failed(format!(
            "no cluster runs in {dir}; start one with `testcluster up`, or name its directory with --dir"
        ))
    };
    let stream = UnixStream::connect(socket).await.map_err(|_| nobody())?;
    let conversation = async {
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&line_of(what)).await?;
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    };
    let line = match tokio::time::timeout(ANSWER, conversation).await {
        Ok(Ok(line)) if !line.is_empty() => line,
        Ok(_) => return Err(Error::failed("the supervisor ended before it answered")),
        Err(_) => {
            return Err(Error::failed(format!("the supervisor does not answer within {} s", ANSWER.as_secs())));
        }
    };
    match serde_json::from_str(&line) {
        Ok(Answer::Refused { problem, is_usage: true }) => Err(Error::Usage(problem)),
        Ok(Answer::Refused { problem, .. }) => Err(Error::Failed(problem)),
        Ok(answer) => Ok(answer),
        Err(error) => {
            Err(Error::failed(format!("the supervisor's answer makes no sense ({error}); is it of another version?")))
        }
    }
}
