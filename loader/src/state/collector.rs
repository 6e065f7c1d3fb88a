//! What connections that are forgotten have left.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{StateError, failed, read, replace};
use crate::conntrack::collect::{BackendId, Total};

/// `conntrack.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorState {
    /// The last pass over each table, by name of its map.
    pub passes: BTreeMap<String, PassState>,
    /// What connections that are gone have counted, by backend.
    pub totals: HashMap<BackendId, Total>,
}

/// A pass over a table of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassState {
    /// When, in seconds since 1970.
    pub time: u64,
    /// How long it took.
    pub microseconds: u64,
    /// Entries that it left.
    pub entries: u64,
    /// Entries for which there is room.
    pub capacity: u64,
    /// Entries that it removed.
    pub removed: u64,
    /// Entries that all passes have removed.
    pub removed_ever: u64,
    /// How many passes there were.
    pub passes: u64,
}

impl PassState {
    /// Whether every other entry was taken.
    #[must_use]
    pub const fn is_half_full(&self) -> bool {
        self.entries * 2 > self.capacity
    }
}

/// The file: JSON has no keys but texts.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    passes: BTreeMap<String, PassState>,
    /// Index and generation of a backend; connections, packets, bytes.
    totals: Vec<(u32, u32, u64, u64, u64)>,
}

impl CollectorState {
    /// What the file at `path` says; nothing without one, or if it can't be read.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let content: Content = match read(path) {
            Ok(content) => content?,
            Err(error) => {
                log::warn!("{error}; going on without what it remembers");
                return None;
            }
        };
        let total = |(id, generation, connections, packets, bytes)| {
            ((id, generation), Total { connections, packets, bytes })
        };
        Some(Self { passes: content.passes, totals: content.totals.into_iter().map(total).collect() })
    }

    /// Replaces the file at `path`.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let total = |((id, generation), total): (&BackendId, &Total)| {
            (*id, *generation, total.connections, total.packets, total.bytes)
        };
        let content =
            Content { passes: self.passes.clone(), totals: self.totals.iter().map(total).collect() };
        let text = serde_json::to_vec(&content).map_err(io::Error::from).map_err(failed("write", path))?;
        replace(path, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("conntrack.json");
        assert_eq!(CollectorState::read(&path), None);
        let state = CollectorState {
            passes: BTreeMap::from([(
                "conntrack4".to_owned(),
                PassState { entries: 7, ..PassState::default() },
            )]),
            totals: HashMap::from([((1, 2), Total { connections: 3, packets: 4, bytes: 5 })]),
        };
        state.write(&path).unwrap();
        assert_eq!(CollectorState::read(&path), Some(state));
    }
}
