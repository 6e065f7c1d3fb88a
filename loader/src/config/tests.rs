//! Every rule of the file, by what it says of a file that breaks it.

mod maps;
mod node;
mod pods;
mod right;
mod services;
mod text;

use super::*;

/// A file without errors, in the parts that a test may replace.
const NODE: &str = r#"[node]
name = "worker-0"
address = ["10.240.0.20"]
uplink = ["eth0"]
pod-cidr = ["10.200.0.0/24", "fd00:10:200::/64"]
"#;
const PEER: &str = r#"[[peer]]
name = "worker-1"
address = ["10.240.0.21"]
pod-cidr = ["10.200.1.0/24", "fd00:10:200:1::/64"]
"#;
const POD: &str = r#"[[pod]]
name = "default/nginx"
netns = "/run/netns/nginx"
ip = ["10.200.0.4", "fd00:10:200::4"]
"#;

/// What is said of `text`: `line:column key: message`, each.
fn said(text: &str) -> Vec<String> {
    let errors = parse("x.toml", text).map_or_else(|invalid| invalid.errors, |_| Vec::new());
    errors.iter().map(|e| format!("{}:{} {}: {}", e.line, e.column, e.key, e.message)).collect()
}

/// Asserts what is said when `old` is replaced by `new` in `part`, which follows the other parts.
#[track_caller]
fn says(part: &str, old: &str, new: &str, expected: &[&str]) {
    assert!(part.contains(old), "{old} is not in {part}");
    let text = [NODE, PEER, POD]
        .map(|known| if known == part { part.replacen(old, new, 1) } else { known.to_owned() });
    assert_eq!(said(&text.concat()), expected, "for {new}");
}

/// Asserts what is said of the file with `more` behind it, from line 14 on.
#[track_caller]
fn says_with(more: &str, expected: &[&str]) {
    assert_eq!(said(&[NODE, PEER, POD, more].concat()), expected, "for {more}");
}
