//! The configuration file, and the state that it asked for when it was read.

use std::path::{Path, PathBuf};

use crate::{
    config::{self, Config, ConfigError},
    desired::Desired,
};

/// A configuration file as it was when it was read.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    /// What it asks for.
    pub(super) desired: Desired,
}

impl Source {
    /// Reads the file at `path`; logs what in it is most likely not meant.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, config::read(path)?)
    }

    /// Reads the file again: nothing, if it says what it said. One change may be noticed twice, by the file and by the
    /// signal of whoever wrote it, and to parse thousands of services takes longer than to see that they stay.
    pub(super) fn newer(&self) -> Result<Option<Self>, ConfigError> {
        let text = config::read(&self.path)?;
        (text != self.text).then(|| Self::parse(&self.path, text)).transpose()
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let Config { desired, warnings } = config::parse(&path.display().to_string(), &text)?;
        warnings.lines().for_each(|warning| log::warn!("{warning}"));
        Ok(Self { path: path.to_owned(), text, desired })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_anew_when_it_says_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.toml");
        let text = include_str!("../../../examples/single-node.toml");
        fs::write(&path, text).unwrap();
        let first = Source::read(&path).unwrap();
        assert!(first.newer().unwrap().is_none());

        fs::write(&path, format!("{text}\nno_such_key = 1\n")).unwrap();
        assert!(first.newer().is_err());
        // What could not be read takes nobody's place.
        fs::write(&path, text).unwrap();
        assert!(first.newer().unwrap().is_none());

        fs::write(&path, text.replace("default/client", "default/other")).unwrap();
        let second = first.newer().unwrap().unwrap();
        let names =
            |source: &Source| source.desired.pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&first), ["default/client", "default/nginx"]);
        assert_eq!(names(&second), ["default/nginx", "default/other"]);
        assert!(second.newer().unwrap().is_none());

        fs::remove_file(&path).unwrap();
        assert!(second.newer().is_err());
    }
}
