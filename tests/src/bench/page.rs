//! The generated part of `docs/benchmarks.md`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const BEGIN: &str = "<!-- written by `cargo xtask bench --write` -->";
const END: &str = "<!-- end of what is written -->";

/// Replaces what stands between the marks by `text`; returns the page's path.
pub fn write(text: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let page =
        replace(&page, text).with_context(|| format!("{}: not `{BEGIN}` .. `{END}`", path.display()))?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    path.canonicalize().with_context(|| format!("resolve {}", path.display()))
}

fn replace(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nmore\n");
        let expected = format!("# Title\n{BEGIN}\n\nnew\n\n{END}\nmore\n");
        assert_eq!(replace(&page, "new\n"), Some(expected));
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        assert_eq!(replace("# Title\n", "new"), None);
    }
}
