//! A request on its way from a function to the embedded AWS, for whoever stands between the two.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A request.
pub(crate) struct Request {
    /// Its first line.
    pub(crate) first: String,
    headers: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The next request of a connection; nothing where it has ended.
    pub(crate) async fn read(client: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if client.read_line(&mut head).await? == 0 {
                return Ok(None);
            }
        }
        let (first, headers) = head.split_once("\r\n").unwrap_or_default();
        let mut request = Self { first: first.to_owned(), headers: headers.to_owned(), body: Vec::new() };
        request.body = vec![0; request.header("content-length").and_then(|bytes| bytes.parse().ok()).unwrap_or(0)];
        client.read_exact(&mut request.body).await?;
        Ok(Some(request))
    }

    /// What a header says.
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    }

    /// What the embedded AWS on port `aws` answers: all of it, after which the connection ends.
    pub(crate) async fn forward(&self, aws: u16) -> io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(("127.0.0.1", aws)).await?;
        let lines = self.headers.lines();
        let lines = lines.filter(|line| !line.to_lowercase().starts_with("connection:") && !line.is_empty());
        let lines = lines.collect::<Vec<_>>().join("\r\n");
        upstream.write_all(format!("{}\r\n{lines}\r\nconnection: close\r\n\r\n", self.first).as_bytes()).await?;
        upstream.write_all(&self.body).await?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}
