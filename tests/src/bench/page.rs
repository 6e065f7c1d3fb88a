//! The generated part of `docs/benchmarks.md`, and its plots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Replaces what stands between a part's marks by `text`; returns the page's path.
pub fn write(part: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let page = replace(&page, part, text)
        .with_context(|| format!("{}: not `{}` .. `{}`", path.display(), begin(part), end(part)))?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    path.canonicalize().with_context(|| format!("resolve {}", path.display()))
}

/// Writes a plot to where the page has it from.
pub fn write_plot(name: &str, svg: &str) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    let path = directory.join(format!("{name}.svg"));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    fs::write(&path, svg).with_context(|| format!("write {}", path.display()))
}

fn begin(part: &str) -> String {
    format!("<!-- {part}: written by `cargo xtask bench --write` -->")
}

fn end(part: &str) -> String {
    format!("<!-- {part}: end -->")
}

fn replace(page: &str, part: &str, text: &str) -> Option<String> {
    let (begin, end) = (begin(part), end(part));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = |content: &str| {
            let marked = |part: &str, content: &str| format!("{}{content}{}\n", begin(part), end(part));
            format!("# Title\n{}{}more\n", marked("one", content), marked("other", "\nkept\n"))
        };
        assert_eq!(replace(&page("\nold\n"), "one", "new\n"), Some(page("\n\nnew\n\n")));
    }

    #[test]
    fn the_page_has_a_place_for_every_part() {
        let page = include_str!("../../../docs/benchmarks.md");
        for part in crate::bench::Part::ALL {
            assert!(replace(page, part.name(), "").is_some(), "{}", part.name());
        }
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        assert_eq!(replace("# Title\n", "one", "new"), None);
    }
}
