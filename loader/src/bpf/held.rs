//! The pinned maps, held open: pins may be taken away while the loader runs, by `rm` or with the BPF file system, and the links go with
//! theirs. What the maps have is still there, and is pinned again.

use std::{os::fd::OwnedFd, path::PathBuf};

use common::maps::name;

use super::{
    BpfError, Programs,
    environment::ensure_bpffs,
    pins,
    replaced::Replaced,
    system_call::{open, pin},
};
use crate::paths::NodePaths;

/// A map, and a descriptor of it.
pub(super) type Held = (&'static str, OwnedFd);

/// Opens all maps, which have just been loaded.
pub(super) fn hold(paths: &NodePaths, replaced: &Replaced) -> Result<Vec<Held>, BpfError> {
    let hold = |map| {
        let pin = pin_of(map, paths, replaced);
        Ok((map, open(&pin).map_err(pins::failed("open the map pinned at", &pin))?))
    };
    name::ALL.into_iter().map(hold).collect()
}

impl Programs {
    /// Makes sure that there is a BPF file system, and that the maps are pinned there; programs and links follow as if they
    /// were new.
    pub fn ensure_pinned(&mut self) -> Result<(), BpfError> {
        ensure_bpffs(self.paths.bpffs())?;
        pins::make_directories(&self.paths)?;
        let mut again = 0;
        for (map, held) in &self.held {
            let path = pin_of(map, &self.paths, &self.replaced);
            if !pins::is_there(&path)? {
                pin(held, &path).map_err(pins::failed("pin a map at", &path))?;
                again += 1;
            }
        }
        if again > 0 {
            log::warn!(
                "{again} maps were not pinned any more and are again; links that were taken away are made anew"
            );
        }
        let mut programs = self.pinned().into_iter().filter(|(_, is_loaded)| *is_loaded);
        let all = programs.try_fold(true, |all, (program, _)| {
            Ok::<_, BpfError>(all & pins::is_there(&self.paths.program(program))?)
        })?;
        self.committed &= all;
        Ok(())
    }
}

/// Where a map is pinned: beside its place until the programs with it are attached, if it takes another one's.
fn pin_of(map: &str, paths: &NodePaths, replaced: &Replaced) -> PathBuf {
    let pin = paths.map(map);
    if replaced.all.contains(&map) { pins::next(&pin) } else { pin }
}
