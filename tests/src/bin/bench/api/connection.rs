//! A client that costs next to nothing: HTTP/1.1 over a connection that is kept, one request at
//! a time, of which nothing but the status and the length is looked at.

use std::{fmt, ops::Range};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Unix,
    Tls,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unix => "unix",
            Self::Tls => "TLS",
        })
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// Empty where the way in says who it is.
    token: String,
    buffer: Vec<u8>,
    /// Of the buffer, what came with the head of a watch.
    came: Range<usize>,
}

/// The head of an answer.
struct Head {
    status: u16,
    /// Bytes of the head itself.
    end: usize,
    /// Bytes of the body; `None` when it comes in chunks.
    length: Option<usize>,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, token: String) -> Self {
        Self { stream, token, buffer: vec![0; 1 << 18], came: 0..0 }
    }

    /// Asks for a body; how many bytes it has.
    pub(super) async fn get(&mut self, path: &str) -> Result<usize> {
        self.send("GET", path, "application/json", "").await?;
        self.answer(200).await
    }

    pub(super) async fn create(&mut self, path: &str, body: &Value) -> Result<()> {
        self.create_text(path, &body.to_string()).await
    }

    pub(super) async fn create_text(&mut self, path: &str, body: &str) -> Result<()> {
        self.send("POST", path, "application/json", body).await?;
        self.answer(201).await.map(drop)
    }

    pub(super) async fn merge(&mut self, path: &str, body: &Value) -> Result<()> {
        self.send("PATCH", path, "application/merge-patch+json", &body.to_string()).await?;
        self.answer(200).await.map(drop)
    }

    /// Begins a watch; what follows is read with [`Connection::read`].
    pub(super) async fn watch(&mut self, path: &str) -> Result<()> {
        self.send("GET", path, "application/json", "").await?;
        let (head, filled) = self.head().await?;
        ensure!(head.status == 200, "the watch was answered {}", head.status);
        self.came = head.end..filled;
        Ok(())
    }

    /// The next bytes of a watch.
    pub(super) async fn read(&mut self) -> Result<&[u8]> {
        let came = std::mem::take(&mut self.came);
        if !came.is_empty() {
            return Ok(&self.buffer[came]);
        }
        let read = self.stream.read(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed a watch");
        Ok(&self.buffer[..read])
    }

    async fn send(&mut self, method: &str, path: &str, content: &str, body: &str) -> Result<()> {
        let token = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
             Content-Type: {content}\r\n{token}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads an answer to its end; how many bytes its body has.
    async fn answer(&mut self, expected: u16) -> Result<usize> {
        let (head, filled) = self.head().await?;
        let Some(length) = head.length else { bail!("an answer of unknown length") };
        let mut left = (head.end + length).checked_sub(filled).context("more was answered than asked for")?;
        if head.status != expected {
            let said = String::from_utf8_lossy(&self.buffer[head.end..filled]).into_owned();
            bail!("answered {} and not {expected}: {said}", head.status);
        }
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            left = left.checked_sub(read).context("more was answered than asked for")?;
        }
        Ok(length)
    }

    /// Reads until the head is there; what else came with it is in the buffer.
    async fn head(&mut self) -> Result<(Head, usize)> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.buffer[..end])?;
                let status = text.get(9..12).context("an answer without a status")?.parse()?;
                let length = text.split("\r\n").find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
                });
                return Ok((Head { status, end: end + 4, length }, filled));
            }
        }
    }
}
