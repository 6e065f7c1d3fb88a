//! The rules that kube-proxy keeps in its iptables mode: a rule per service in one chain that every new connection walks,
//! and from there a chain per service and one per endpoint.

use std::{
    fmt::{self, Write as _},
    net::SocketAddrV4,
};

use super::plan::{PORT, Protocol, Service};

/// Bit of the packet mark that asks for masquerading.
const MARK: &str = "0x4000";

/// One service under one protocol: what has chains of its own.
struct ServicePort<'a> {
    number: usize,
    service: &'a Service,
    protocol: Protocol,
}

impl ServicePort<'_> {
    fn chain(&self) -> String {
        format!("KUBE-SVC-{:016}", self.number)
    }

    /// The chain for what comes from outside.
    fn external_chain(&self) -> String {
        format!("KUBE-EXT-{:016}", self.number)
    }

    fn endpoint_chain(&self, endpoint: usize) -> String {
        format!("KUBE-SEP-{:012}{endpoint:04}", self.number)
    }

    fn comment(&self) -> String {
        format!("-m comment --comment \"{}:{} cluster IP\"", self.service.name, self.protocol.name())
    }
}

/// What `iptables-restore` reads. `pods` is the range of all pods' addresses.
pub fn render(services: &[Service], pods: &str) -> Result<String, fmt::Error> {
    let ports: Vec<ServicePort<'_>> = services
        .iter()
        .flat_map(|service| service.protocols.iter().map(move |protocol| (service, *protocol)))
        .enumerate()
        .map(|(number, (service, protocol))| ServicePort { number, service, protocol })
        .collect();
    let mut text = filter();
    text.push_str("*nat\n");
    for chain in ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"] {
        writeln!(text, ":{chain} - [0:0]")?;
    }
    for port in &ports {
        declare(&mut text, port)?;
    }
    text.push_str("-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n");
    text.push_str("-A POSTROUTING -j KUBE-POSTROUTING\n");
    writeln!(text, "-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}")?;
    writeln!(text, "-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN")?;
    writeln!(text, "-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}")?;
    text.push_str("-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n");
    for port in &ports {
        let (address, protocol) = (port.service.cluster_ip, port.protocol.name());
        let (chain, comment) = (port.chain(), port.comment());
        writeln!(
            text,
            "-A KUBE-SERVICES {comment} -d {address}/32 -p {protocol} -m {protocol} --dport {PORT} -j {chain}"
        )?;
    }
    text.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n");
    for port in &ports {
        fill(&mut text, port, pods)?;
    }
    text.push_str("COMMIT\n");
    Ok(text)
}

/// What is forwarded meets two chains that have nothing to say about a service with endpoints, and one that lets it pass.
fn filter() -> String {
    let forward = [
        "-m conntrack --ctstate INVALID -j DROP",
        "-m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ];
    let chains =
        ["KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"];
    let mut lines = vec!["*filter".to_owned()];
    lines.extend(chains.map(|chain| format!(":{chain} - [0:0]")));
    for (hook, chains) in [
        ("INPUT", &["KUBE-PROXY-FIREWALL", "KUBE-EXTERNAL-SERVICES"][..]),
        ("FORWARD", &["KUBE-PROXY-FIREWALL", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"]),
        ("OUTPUT", &["KUBE-PROXY-FIREWALL", "KUBE-SERVICES"]),
    ] {
        if hook == "INPUT" {
            lines.push("-A INPUT -j KUBE-NODEPORTS".to_owned());
        }
        if hook == "FORWARD" {
            lines.push("-A FORWARD -j KUBE-FORWARD".to_owned());
        }
        lines.extend(chains.iter().map(|chain| format!("-A {hook} -m conntrack --ctstate NEW -j {chain}")));
    }
    lines.extend(forward.map(|rule| format!("-A KUBE-FORWARD {rule}")));
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

fn declare(text: &mut String, port: &ServicePort<'_>) -> fmt::Result {
    writeln!(text, ":{} - [0:0]", port.chain())?;
    if port.service.node_port.is_some() {
        writeln!(text, ":{} - [0:0]", port.external_chain())?;
    }
    for endpoint in 0..port.service.backends.len() {
        writeln!(text, ":{} - [0:0]", port.endpoint_chain(endpoint))?;
    }
    Ok(())
}

fn fill(text: &mut String, port: &ServicePort<'_>, pods: &str) -> fmt::Result {
    let Service { cluster_ip, node_port, backends, .. } = port.service;
    let (chain, protocol) = (port.chain(), port.protocol.name());
    if let Some(node_port) = node_port {
        let external = port.external_chain();
        writeln!(
            text,
            "-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {node_port} -j {external}\n\
             -A {external} -j KUBE-MARK-MASQ\n\
             -A {external} -j {chain}"
        )?;
    }
    writeln!(
        text,
        "-A {chain} ! -s {pods} -d {cluster_ip}/32 -p {protocol} -m {protocol} --dport {PORT} -j KUBE-MARK-MASQ"
    )?;
    for (index, backend) in backends.iter().enumerate() {
        let endpoint = port.endpoint_chain(index);
        let left = u32::try_from(backends.len() - index).unwrap_or(u32::MAX);
        if left > 1 {
            let probability = 1.0 / f64::from(left);
            writeln!(
                text,
                "-A {chain} -m statistic --mode random --probability {probability:.10} -j {endpoint}"
            )?;
        } else {
            writeln!(text, "-A {chain} -j {endpoint}")?;
        }
        fill_endpoint(text, &endpoint, protocol, *backend)?;
    }
    Ok(())
}

fn fill_endpoint(text: &mut String, chain: &str, protocol: &str, backend: SocketAddrV4) -> fmt::Result {
    writeln!(
        text,
        "-A {chain} -s {}/32 -j KUBE-MARK-MASQ\n\
         -A {chain} -p {protocol} -m {protocol} -j DNAT --to-destination {backend}",
        backend.ip()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::services::plan;

    #[test]
    fn every_service_has_one_rule_in_the_chain_that_all_walk() {
        let text = render(&plan::services(100, 3), "10.200.0.0/16").unwrap();
        // The two that are called have two protocols each.
        assert_eq!(text.matches("-A KUBE-SERVICES -m comment").count(), 102);
        assert_eq!(text.matches("-j DNAT").count(), 98 * 3 + 4);
        assert_eq!(text.matches("-A KUBE-NODEPORTS").count(), 4);
    }

    #[test]
    fn chain_names_fit() {
        for line in render(&plan::services(10_000, 2), "10.200.0.0/16").unwrap().lines() {
            let chain = line.strip_prefix(':').and_then(|line| line.split(' ').next());
            assert!(chain.is_none_or(|chain| chain.len() <= 28), "{line}");
        }
    }
}
