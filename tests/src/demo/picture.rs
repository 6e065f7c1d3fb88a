//! The topology, drawn from what was made.

use std::fmt::Write as _;

use crate::{cluster::Cluster, outside::Outside, pod::Pod, spec::Spec};

const WIDTH: usize = 27;

/// One node's box, line by line.
struct Drawing(Vec<String>);

/// Prints the nodes beside each other, with the router that joins them and the host behind it.
pub(super) fn print(cluster: &Cluster, outside: &Outside) {
    let podlane = cluster.podlane.iter().map(|node| draw(&node.spec, "Podlane", &node.pods));
    let kernel = cluster.kernel.iter().map(|node| draw(&node.spec, "kernel VTEP", &node.pods));
    let drawings: Vec<Drawing> = podlane.chain(kernel).collect();
    let height = drawings.iter().map(|Drawing(lines)| lines.len()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for row in 0..height {
        for Drawing(lines) in &drawings {
            // Shorter boxes stand on the same ground.
            let line = (row + lines.len()).checked_sub(height).and_then(|row| lines.get(row));
            let _infallible = write!(text, "  {:WIDTH$}", line.map_or("", String::as_str));
        }
        text.push('\n');
    }
    let stems = format!("  {:^WIDTH$}", "│").repeat(drawings.len());
    let wide = drawings.len() * (WIDTH + 2);
    let _infallible = writeln!(text, "{stems}");
    let _infallible = writeln!(text, "  ╞{:═^1$}╡", " router between the underlay subnets ", wide - 4);
    let addresses: Vec<String> = outside.addresses.iter().map(ToString::to_string).collect();
    let host = format!("outside, no part of the cluster: {}", addresses.join(", "));
    let _infallible = writeln!(text, "  {:^wide$}", "│");
    let _infallible = writeln!(text, "  {host:^wide$}");
    println!("{text}");
}

fn draw(spec: &Spec, dataplane: &str, pods: &[Pod]) -> Drawing {
    let inside = WIDTH - 4;
    let mut lines = vec![format!("┌{:─<1$}┐", "", WIDTH - 2)];
    let mut add = |text: &str| lines.push(format!("│ {text:inside$} │"));
    for pod in pods {
        add(pod.name.rsplit('/').next().unwrap_or(&pod.name));
        for ip in pod.ips() {
            add(&format!("  {ip}"));
        }
    }
    add("");
    add(&format!("{}, {dataplane}", spec.name.trim_start_matches("demo-")));
    for address in spec.addresses() {
        add(&format!("  {address}"));
    }
    lines.push(format!("└{:─^1$}┘", "┬", WIDTH - 2));
    Drawing(lines)
}
