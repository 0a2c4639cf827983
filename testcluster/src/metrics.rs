//! Figures of members, read from their metrics pages.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 4 << 20;

/// Metrics page of one member at one moment.
#[derive(Debug, Clone, Default)]
pub struct Page(Vec<(String, f64)>);

impl Page {
    /// Reads the page of the member whose health and metrics are at that address.
    pub async fn read(at: SocketAddr) -> Result<Self, Error> {
        let io = |source| Error::Io { what: format!("cannot read the metrics of {at}"), source };
        let text = tokio::time::timeout(WITHIN, fetch(at)).await;
        let text = text.map_err(|_| Error::failed(format!("{at} did not show its metrics within 5 s")))?.map_err(io)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(samples.filter_map(sample).collect())
    }

    /// The sum of a metric over all its labels; 0 if the page does not have it.
    pub fn sum(&self, name: &str) -> f64 {
        let is_it = |found: &str| found.split('{').next() == Some(name);
        self.0.iter().filter(|(found, _)| is_it(found)).map(|(_, value)| value).sum()
    }
}

/// By HTTP/1.0, so that the answer is not chunked and ends with the connection.
async fn fetch(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_their_labels() {
        let page = Page::parse("# HELP a_total x\na_total{x=\"1\"} 2\na_total{x=\"2 3\"} 3.5\na_total_more 7\nb 1\n");
        assert!((page.sum("a_total") - 5.5).abs() < f64::EPSILON);
        assert!((page.sum("b") - 1.0).abs() < f64::EPSILON);
        assert!(page.sum("c").abs() < f64::EPSILON);
    }
}
