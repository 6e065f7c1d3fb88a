//! Which nodes there are on this machine, and the one that is meant.

use std::{collections::BTreeSet, fs, io, path::Path};

use thiserror::Error;

use crate::paths::{self, NodePaths};

/// Why no node is meant.
#[derive(Debug, Error)]
pub enum SelectError {
    /// There is none.
    #[error("no node is here: {run} and {} are empty; start one with `loader run --config FILE`", pins)]
    None {
        /// Runtime directory of all nodes.
        run: &'static str,
        /// Pins of all nodes.
        pins: String,
    },
    /// There are several.
    #[error("several nodes are here: {}; choose one with --node", nodes.join(", "))]
    Several {
        /// Their names.
        nodes: Vec<String>,
    },
    /// There are others.
    #[error("no node {node} is here; there is: {}", nodes.join(", "))]
    Other {
        /// The one that was asked for.
        node: String,
        /// Those that there are.
        nodes: Vec<String>,
    },
    /// A directory can't be read.
    #[error("readdir {directory}: {source}; run as root")]
    Unreadable {
        /// The directory.
        directory: String,
        /// The errno.
        source: io::Error,
    },
}

/// The node of that name, or the only one.
pub fn select(bpffs: &Path, node: Option<&str>) -> Result<NodePaths, SelectError> {
    let pins = paths::all_pins(bpffs);
    let mut nodes = directories(Path::new(paths::RUN))?;
    nodes.extend(directories(&pins)?.iter().map(|name| paths::node_of_pins(name)));
    let node = choose(nodes, node).map_err(|nodes| match (nodes, node) {
        (nodes, _) if nodes.is_empty() => {
            SelectError::None { run: paths::RUN, pins: pins.display().to_string() }
        }
        (nodes, None) => SelectError::Several { nodes },
        (nodes, Some(node)) => SelectError::Other { node: node.to_owned(), nodes },
    })?;
    Ok(NodePaths::new(bpffs, &node))
}

/// The one of `nodes` that is `wanted`, or the only one; else all that there are.
fn choose(nodes: BTreeSet<String>, wanted: Option<&str>) -> Result<String, Vec<String>> {
    match wanted {
        Some(wanted) if nodes.contains(wanted) => Ok(wanted.to_owned()),
        None if nodes.len() == 1 => nodes.into_iter().next().ok_or_else(Vec::new),
        _ => Err(nodes.into_iter().collect()),
    }
}

fn directories(path: &Path) -> Result<BTreeSet<String>, SelectError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => return Err(SelectError::Unreadable { directory: path.display().to_string(), source }),
    };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_one_or_the_one_that_is_named() {
        let nodes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(choose(nodes(&["a"]), None), Ok("a".to_owned()));
        assert_eq!(choose(nodes(&["a", "b"]), Some("b")), Ok("b".to_owned()));
        assert_eq!(choose(nodes(&["b", "a"]), None), Err(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(choose(nodes(&["a"]), Some("b")), Err(vec!["a".to_owned()]));
        assert_eq!(choose(nodes(&[]), None), Err(Vec::new()));
    }

    #[test]
    fn directories_only() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("node")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(directories(root.path()).unwrap().into_iter().collect::<Vec<_>>(), ["node"]);
        assert!(directories(&root.path().join("none")).unwrap().is_empty());
    }
}
