//! `docs/acceptance.md` tells the truth: every ID of the catalogue is in it, every test that it names exists.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

/// How many IDs each theme of the catalogue has.
const CATALOGUE: [(&str, u32); 9] =
    [("PF", 11), ("OV", 12), ("SV", 14), ("CT", 7), ("IC", 2), ("FR", 1), ("SN", 8), ("NP", 11), ("OP", 4)];

fn page() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/acceptance.md");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The first cell of every row, split at its commas.
fn ids(page: &str) -> Vec<&str> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split(", ")).collect()
}

#[test]
fn every_id_is_listed_once() -> Result<()> {
    let page = page()?;
    let listed = ids(&page);
    for (theme, count) in CATALOGUE {
        for number in 1..=count {
            let id = format!("{theme}-{number}");
            let times = listed.iter().filter(|listed| **listed == id).count();
            ensure!(times == 1, "{id} is listed {times} times");
        }
    }
    Ok(())
}

#[test]
fn every_test_that_is_named_exists() -> Result<()> {
    let mut named = 0;
    for path in
        page()?.split('`').skip(1).step_by(2).filter(|word| word.contains("::") && !word.contains("..."))
    {
        let (module, test) = path.rsplit_once("::").context("a path of two parts")?;
        let module = format!("{}.rs", module.replace("::", "/"));
        let file = match module.strip_prefix("common/") {
            Some(module) if module.starts_with("translation/") => format!("../common/tests/{module}"),
            Some(module) => format!("../common/src/{module}"),
            None => format!("tests/{module}"),
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = fs::read_to_string(&file).with_context(|| format!("{path}: read {}", file.display()))?;
        ensure!(source.contains(&format!("fn {test}(")), "{path} is not in {}", file.display());
        named += 1;
    }
    ensure!(named > 100, "{named} tests are named");
    Ok(())
}
