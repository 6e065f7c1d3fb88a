//! A request and an answer as a web server and a kubelet's probe exchange them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::tcp;
use crate::{netns::Netns, wait};

/// Serves one request at an address, asks for it from another namespace, and returns the body.
pub fn get(from: &Netns, to: (&Netns, IpAddr), body: &str) -> Result<String> {
    let (listener, address) = tcp::listen(to.0, to.1)?;
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let server = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept().context("accept")?;
        stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
        let mut lines = BufReader::new(stream.try_clone().context("duplicate the stream")?).lines();
        while !lines.next().context("the request ends early")??.is_empty() {}
        stream.write_all(answer.as_bytes()).context("answer")
    });
    let received = request(from, address)?;
    server.join().map_err(|_panic| anyhow!("the server panicked"))??;
    let (head, content) = received.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "answered: {head}");
    ensure!(content == body, "the body came changed: {content}");
    Ok(content.to_owned())
}

fn request(from: &Netns, to: SocketAddr) -> Result<String> {
    let mut stream = tcp::connect(from, to)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {to}\r\nUser-Agent: podlane-testbed\r\nConnection: close\r\n\r\n"
    )
    .context("send the request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    Ok(answer)
}
