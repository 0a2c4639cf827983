//! The other end of the control socket: a running cluster, from any process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Ask, Status, line_of};
use crate::client::Client;
use crate::cluster::{ENTER_WITHIN, STOP_GRACE};
use crate::directory;
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::shape::Shape;

/// The longest that an answer takes beyond what is done for it: another change of members may go first.
const ANSWER: Duration = Duration::from_secs(30);
/// Every container of every worker is removed.
const DOWN: Duration = Duration::from_secs(180);

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
        if dir.exists() {
            // What it answers is believed: it says where credentials are, and what a shell is to evaluate.
            directory::check_owner(dir)?;
        }
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

    /// Shapes what goes from each of the ones to each of the others, and back.
    pub async fn shape(&self, ones: &[String], others: &[String], shape: Shape) -> Result<(), Error> {
        for (from, to) in ones.iter().flat_map(|from| others.iter().map(move |to| (from, to))) {
            if from != to {
                self.ask(&Ask::Shape { from: from.clone(), to: to.clone(), one_way: false, shape }).await?;
            }
        }
        Ok(())
    }

    /// Makes every fsync of these managers take longer.
    pub async fn slow_disks(&self, managers: &[String], delay: Duration) -> Result<(), Error> {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        for name in managers {
            self.ask(&Ask::SlowDisk { name: name.clone(), delay_us }).await?;
        }
        Ok(())
    }

    /// Ends cuts, shapes and slow disks.
    pub async fn heal(&self) -> Result<(), Error> {
        self.ask(&Ask::Heal).await
    }
}

/// How long the answer may take.
fn limit(what: &Ask) -> Duration {
    ANSWER
        + match what {
            Ask::Stop { .. } => STOP_GRACE,
            Ask::Join { .. } | Ask::Recover { .. } | Ask::Restore { .. } => ENTER_WITHIN,
            Ask::Down { .. } => DOWN,
            _ => Duration::ZERO,
        }
}

async fn ask(socket: &Path, what: &Ask) -> Result<Answer, Error> {
    let nobody = || {
        let dir = socket.parent().unwrap_or(Path::new("/"));
        let is_abandoned = directory::is_abandoned(dir);
        let dir = dir.display();
        Error::failed(if is_abandoned {
            format!(
                "the supervisor of the cluster in {dir} was killed; `testcluster --dir {dir} down` ends what it left"
            )
        } else {
            format!("no cluster runs in {dir}; start one with `testcluster up`, or name its directory with --dir")
        })
    };
    let stream = UnixStream::connect(socket).await.map_err(|_| nobody())?;
    let conversation = async {
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&line_of(what)).await?;
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    };
    let limit = limit(what);
    let line = match tokio::time::timeout(limit, conversation).await {
        Ok(Ok(line)) if !line.is_empty() => line,
        Ok(_) => return Err(Error::failed("the supervisor ended before it answered")),
        Err(_) => {
            return Err(Error::failed(format!("the supervisor does not answer within {} s", limit.as_secs())));
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
