//! Echo requests, by the machine's `ping`.

use std::{
    net::IpAddr,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{netns::Netns, wait};

/// So many requests that must be answered are sent by a ping each: one ping waits for the last of its answers only twice as long as the
/// slowest took, and in between a slow machine may stand still.
const FEW: u32 = 3;

/// How to ping.
#[derive(Clone, Debug)]
pub struct Ping {
    /// How many requests.
    pub count: u32,
    /// Time between them, in milliseconds. Up to 10, ping does not sleep between them, but keeps a processor busy.
    pub interval: u32,
    /// Payload bytes.
    pub size: u32,
    /// Sets "don't fragment" and refuses to send what is larger than the known path MTU.
    pub dont_fragment: bool,
    /// TOS or traffic class.
    pub tos: u8,
    /// Source address, if not the one that routing chooses.
    pub source: Option<IpAddr>,
}

impl Default for Ping {
    fn default() -> Self {
        Self { count: 3, interval: 10, size: 56, dont_fragment: false, tos: 0, source: None }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Mean time to a reply.
    pub mean: Duration,
}

/// Three requests that must all be answered.
pub fn ping(from: &Netns, to: impl Into<IpAddr>) -> Result<Report> {
    Ping::default().must_reach(from, to.into())
}

impl Ping {
    /// Sends the requests, and fails unless every one is answered.
    pub fn must_reach(&self, from: &Netns, to: IpAddr) -> Result<Report> {
        if self.count > FEW {
            return self.start(from, to)?.must_have_reached();
        }
        let one = Self { count: 1, ..self.clone() };
        let mut reports = Report { sent: 0, received: 0, mean: Duration::ZERO };
        for _ in 0..self.count {
            let report = one.start(from, to)?.must_have_reached()?;
            reports.sent += report.sent;
            reports.received += report.received;
            reports.mean += report.mean / self.count;
        }
        Ok(reports)
    }

    /// Sends the requests, and fails if any is answered.
    pub fn must_not_reach(&self, from: &Netns, to: IpAddr) -> Result<()> {
        let Report { sent, received, .. } = self.run(from, to)?;
        ensure!(received == 0, "ping from {} to {to}: {received} of {sent} answered", from.name());
        Ok(())
    }

    /// Sends the requests, and waits a second for a first answer.
    pub fn run(&self, from: &Netns, to: IpAddr) -> Result<Report> {
        self.spawn(from, to, Duration::from_secs(1))?.finish()
    }

    /// Begins to send requests of which every one is to be answered, however late the first.
    pub fn start(&self, from: &Netns, to: IpAddr) -> Result<Pinging> {
        self.spawn(from, to, wait::patience())
    }

    fn spawn(&self, from: &Netns, to: IpAddr, patience: Duration) -> Result<Pinging> {
        let interval = f64::from(self.interval) / 1000.0;
        let mut command = from.command("ping");
        command.args(["-n", "-q", "-W", &patience.as_secs().to_string()]);
        command.args([
            "-c",
            &self.count.to_string(),
            "-i",
            &interval.to_string(),
            "-s",
            &self.size.to_string(),
        ]);
        command.args(["-Q", &self.tos.to_string()]);
        if self.dont_fragment {
            command.args(["-M", "do"]);
        }
        if let Some(source) = self.source {
            command.args(["-I", &source.to_string()]);
        }
        command.arg(to.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("start ping")?;
        Ok(Pinging { child: Some(child), what: format!("ping from {} to {to}", from.name()) })
    }
}

/// Requests under way; dropped, no more are sent.
#[derive(Debug)]
pub struct Pinging {
    /// None once it has ended.
    child: Option<Child>,
    what: String,
}

impl Pinging {
    /// Waits until all are sent, and fails unless every one is answered.
    pub fn must_have_reached(self) -> Result<Report> {
        let what = self.what.clone();
        let report = self.finish()?;
        let Report { sent, received, .. } = report;
        ensure!(received == sent && sent > 0, "{what}: {received} of {sent} answered");
        Ok(report)
    }

    fn finish(mut self) -> Result<Report> {
        let what = &self.what;
        let child = self.child.take().with_context(|| format!("{what}: has ended"))?;
        let output = child.wait_with_output().with_context(|| what.clone())?;
        // The exit code says only whether something was answered; the summary says how much.
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).with_context(|| format!("{what}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Pinging {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

fn parse(text: &str) -> Result<Report> {
    let summary = text.lines().find(|line| line.contains("packets transmitted")).context("no summary")?;
    let mut numbers = summary.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
    let sent = numbers.next().context("no count of requests")?;
    let received = numbers.next().context("no count of replies")?;
    let mean = text.lines().find(|line| line.starts_with("rtt")).and_then(|line| {
        let milliseconds: f64 = line.split(" = ").nth(1)?.split('/').nth(1)?.parse().ok()?;
        Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
    });
    Ok(Report { sent, received, mean: mean.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let text = "PING 10.0.0.1\n\n--- 10.0.0.1 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33% packet loss, time 2ms\n\
                    rtt min/avg/max/mdev = 0.040/0.250/0.090/0.010 ms\n";
        let report = parse(text).unwrap();
        assert_eq!((report.sent, report.received), (3, 2));
        assert_eq!(report.mean, Duration::from_micros(250));
    }
}
