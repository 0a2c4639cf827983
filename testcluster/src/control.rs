//! The supervisor's control socket, both ends: a line of JSON is asked, a line of JSON is answered.

mod remote;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, MemberStatus};
use crate::error::Error;
use crate::layout::Layout;
use crate::shape::Shape;
use crate::taskset::TaskSet;

pub use remote::Remote;

const MAX_LINE_BYTES: u64 = 64 << 10;

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
    Shape {
        from: String,
        to: String,
        one_way: bool,
        shape: Shape,
    },
    SlowDisk {
        name: String,
        delay_us: u64,
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
    /// Links that are cut or shaped.
    pub links: Vec<String>,
    /// Managers whose disks are slow.
    #[serde(default)]
    pub disks: Vec<String>,
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
                disks: cluster.slow_disks(),
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
        Ask::Shape { from, to, one_way, shape } => cluster.shape(&from, &to, one_way, shape),
        Ask::SlowDisk { name, delay_us } => cluster.slow_disk(&name, Duration::from_micros(delay_us)),
        Ask::Heal => cluster.heal(),
        Ask::Down { .. } => unreachable!("the caller takes it"),
    })
}
