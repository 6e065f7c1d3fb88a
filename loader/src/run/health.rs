//! Answers to load balancers that ask whether this node has endpoints of a service: Kubernetes' `healthCheckNodePort`.
//!
//! A thread of its own waits on all ports and on whoever has called there. There is one answer, whatever is asked; whoever says
//! nothing is left alone after a second, and keeps nobody waiting.
//!
//! | module | what it holds |
//! |---|---|
//! | `serve` | the thread |
//! | `callers` | those who have called and not said anything yet |

mod callers;
mod serve;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use self::serve::serve;
use crate::desired::HealthCheck;

/// The ports that answer.
pub(super) struct HealthChecks {
    shared: Arc<Mutex<Ports>>,
    changed: Arc<EventFd>,
    is_running: bool,
}

type Ports = BTreeMap<u16, (Arc<TcpListener>, HealthCheck)>;

impl HealthChecks {
    /// No ports yet.
    pub(super) fn new() -> io::Result<Self> {
        let changed = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { shared: Arc::default(), changed: Arc::new(changed), is_running: false })
    }

    /// Answers for these services and no others. Returns what is wrong.
    pub(super) fn set(&mut self, checks: &[HealthCheck]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut ports = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *ports);
        let is_same =
            before.len() == checks.len() && checks.iter().all(|check| before.contains_key(&check.port));
        for check in checks {
            let listener = before.get(&check.port).map(|(listener, _)| Ok(Arc::clone(listener)));
            match listener.unwrap_or_else(|| listen(check.port).map(Arc::new)) {
                Ok(listener) => {
                    ports.insert(check.port, (listener, check.clone()));
                }
                Err(error) => problems.push(format!(
                    "service {}: health-check-node-port {}: listen: {error}; another process may have the port (`ss -ltn`)",
                    check.service, check.port
                )),
            }
        }
        let is_wanted = !ports.is_empty();
        drop(ports);
        if is_wanted && !self.is_running {
            let (shared, changed) = (Arc::clone(&self.shared), Arc::clone(&self.changed));
            let thread =
                thread::Builder::new().name("health".to_owned()).spawn(move || serve(&shared, &changed));
            self.is_running = thread.is_ok();
            problems.extend(
                thread.err().map(|error| format!("start the thread that answers health checks: {error}")),
            );
        }
        if !is_same && let Err(errno) = self.changed.write(1) {
            log::warn!("eventfd: {errno}");
        }
        problems
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    // Of both families; of IPv4 alone where the kernel has no IPv6.
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        .or_else(|_| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What kube-proxy answers: 200 with endpoints on this node, 503 without.
fn response(check: &HealthCheck) -> String {
    let (namespace, name) = check.service.split_once('/').unwrap_or(("default", &check.service));
    let status = if check.local_endpoints > 0 { "200 OK" } else { "503 Service Unavailable" };
    let body = serde_json::json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": true,
    });
    let body = body.to_string() + "\n";
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::{Duration, Instant},
    };

    use super::*;

    fn free_port() -> u16 {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
    }

    fn ask(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn ports_come_change_and_go() {
        let mut checks = HealthChecks::new().unwrap();
        let port = free_port();
        let check = |local_endpoints| HealthCheck { service: "shop/web".to_owned(), port, local_endpoints };
        assert!(checks.set(&[check(2)]).is_empty());
        let answer = ask(port).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("\"localEndpoints\":2") && answer.contains("\"namespace\":\"shop\""),
            "{answer}"
        );
        assert!(checks.set(&[check(0)]).is_empty());
        assert!(ask(port).unwrap().starts_with("HTTP/1.1 503 "));
        assert!(checks.set(&[]).is_empty());
        let start = Instant::now();
        while ask(port).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10), "the port is still open");
        }
    }

    #[test]
    fn whoever_says_nothing_keeps_nobody_waiting() {
        let mut checks = HealthChecks::new().unwrap();
        let port = free_port();
        let check = HealthCheck { service: "shop/web".to_owned(), port, local_endpoints: 1 };
        assert!(checks.set(&[check]).is_empty());
        let start = Instant::now();
        let silent: Vec<_> =
            (0..50).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
        assert!(ask(port).unwrap().starts_with("HTTP/1.1 200 "));
        // One after the other, a second each, they would take 50.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        for mut stream in silent {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "left alone");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let taken = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let check = HealthCheck { service: "a/b".to_owned(), port, local_endpoints: 1 };
        let problems = HealthChecks::new().unwrap().set(&[check]);
        assert!(
            problems[0].starts_with(&format!("service a/b: health-check-node-port {port}: listen: ")),
            "{problems:?}"
        );
    }
}
