//! What the entries of maps mean. Where that changes and the layout does not, nothing about a pinned map tells; but programs of
//! the version before would misread what this one writes, for as long as they are attached. So the maps have revisions, and
//! one of another revision is made anew, as if it had another layout.
//!
//! Which revisions the pinned maps are of is said by a symbolic link beside them: it is replaced in one step, and gone with them. It says for
//! which maps it holds, by their numbers, and for which programs: those of a loader that knows nothing of it have filled the
//! maps in their own way. Without it, or with one for others, no map has a revision, which is always safe to believe.

use std::{collections::HashMap, fmt::Write as _, fs, os::unix::fs::symlink};

use aya::programs::ProgramInfo;
use common::{
    counters::Hook,
    maps::name::{ROUTES4, ROUTES6},
};

use super::{BpfError, compat::pinned, pins};
use crate::paths::NodePaths;

/// Maps whose entries don't mean any more what those of the same layout meant at first. To be raised with every such change.
///
/// Routes, 1: a kind of route for the nodes' own addresses, to which programs before it send plain packets. 2: the prefix's length
/// where programs before it have the MTU's upper half.
const REVISIONS: [(&str, u32); 2] = [(ROUTES4, 2), (ROUTES6, 2)];

/// A program that always runs. Whether it is this one tells whose the pinned programs are.
const WITNESS: &str = Hook::FromHost.name();

/// The revision that this loader writes a map in.
pub(super) fn of(map: &str) -> u32 {
    REVISIONS.into_iter().find(|(name, _)| *name == map).map_or(0, |(_, revision)| revision)
}

/// Revisions of the pinned maps, by name, with the number of the map each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revisions(HashMap<String, (u32, u32)>);

impl Revisions {
    /// What is said beside the pins. What can't be read says nothing.
    pub(super) fn read(paths: &NodePaths) -> Self {
        let said = fs::read_link(paths.revisions()).ok();
        let said = said.as_ref().and_then(|said| said.to_str());
        said.and_then(|said| Self::parse(said, witness(paths)?)).unwrap_or_default()
    }

    /// `<program> <map>=<revision>@<number>...`; none if it is for another program.
    fn parse(said: &str, program: u32) -> Option<Self> {
        let mut words = said.split(' ');
        if words.next()?.parse() != Ok(program) {
            return None;
        }
        let entry = |word: &str| {
            let (map, rest) = word.split_once('=')?;
            let (revision, id) = rest.split_once('@')?;
            Some((map.to_owned(), (revision.parse().ok()?, id.parse().ok()?)))
        };
        words.map(entry).collect::<Option<_>>().map(Self)
    }

    /// Whether the pinned map of this name, with this number, is of the revision that this loader writes.
    pub(super) fn has(&self, map: &str, id: u32) -> bool {
        let said = self.0.get(map).filter(|(_, of)| *of == id);
        said.map_or(0, |(revision, _)| *revision) == of(map)
    }
}

/// Says of the maps that are pinned now, and of the programs, that they are this loader's.
pub(super) fn write(paths: &NodePaths) -> Result<(), BpfError> {
    let Some(mut text) = witness(paths).map(|program| program.to_string()) else { return Ok(()) };
    for (map, revision) in REVISIONS {
        if let Some(found) = pinned(&paths.map(map))? {
            // Writing to a string does not fail.
            let _ = write!(text, " {map}={revision}@{}", found.id);
        }
    }
    let path = paths.revisions();
    let next = pins::next(&path);
    pins::remove(&next)?;
    symlink(text, &next).map_err(pins::failed("symlink", &next))?;
    pins::advance(&path)
}

fn witness(paths: &NodePaths) -> Option<u32> {
    Some(ProgramInfo::from_pin(paths.program(WITNESS)).ok()?.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_that_of_one_map_under_one_program() {
        let (ours, before) = (of(ROUTES4), of(ROUTES6) - 1);
        let said = Revisions::parse(&format!("7 routes4={ours}@21 routes6={before}@22"), 7).unwrap();
        assert!(said.has(ROUTES4, 21));
        assert!(!said.has(ROUTES4, 23), "another map");
        assert!(!said.has(ROUTES6, 22), "another revision");
        assert!(said.has("pods4", 24), "those that are not told of have none, and need none");
        assert_eq!(Revisions::parse("7 routes4=1@21", 8), None, "programs of another loader");
        assert!(!Revisions::parse("7 pods4=1@21", 7).unwrap().has("pods4", 21), "a newer loader's");
        assert!(!Revisions::default().has(ROUTES4, 21) && Revisions::default().has("pods4", 24));
        assert_eq!(Revisions::parse("7 routes4=1", 7), None);
    }
}
