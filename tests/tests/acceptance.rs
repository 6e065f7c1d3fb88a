//! `docs/acceptance.md` tells the truth: every ID of the catalogue is in it, every test that it names exists, and says itself which IDs
//! it proves.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// The tests that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.contains("::") && !word.contains("..."))
}

/// The file of a test, and the test's name in it.
fn place(path: &str) -> Result<(PathBuf, &str)> {
    let (module, test) = path.rsplit_once("::").context("a path of two parts")?;
    let module = format!("{}.rs", module.replace("::", "/"));
    let file = match module.strip_prefix("common/") {
        Some(module) if module.starts_with("translation/") => format!("../common/tests/{module}"),
        Some(module) => format!("../common/src/{module}"),
        None => format!("tests/{module}"),
    };
    Ok((Path::new(env!("CARGO_MANIFEST_DIR")).join(file), test))
}

fn source(path: &str) -> Result<(String, &str)> {
    let (file, test) = place(path)?;
    let source = fs::read_to_string(&file).with_context(|| format!("{path}: read {}", file.display()))?;
    ensure!(source.contains(&format!("fn {test}(")), "{path} is not in {}", file.display());
    Ok((source, test))
}

/// A function of a source file.
struct Function<'a> {
    name: &'a str,
    /// The comments above it.
    documentation: String,
    body: String,
}

/// The functions of a formatted source file, of which each ends where a line is indented as its first one is.
fn functions(source: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = source.lines().collect();
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(declared) = code.strip_prefix("pub ").unwrap_or(code).strip_prefix("fn ") else { continue };
        let name = declared.split(['(', '<']).next().unwrap_or_default();
        let is_above = |line: &&&str| line.trim_start().starts_with(['#', '/']);
        let above = lines[..at].iter().rev().take_while(is_above).copied().collect::<Vec<_>>();
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let body = lines[at + 1..].iter().take_while(|line| **line != end).copied().collect::<Vec<_>>();
        functions.push(Function { name, documentation: above.join("\n"), body: body.join("\n") });
    }
    functions
}

/// Whether a test's documentation has that ID, or that of a function beside it that does the test's work.
fn says(source: &str, test: &str, id: &str) -> Result<bool> {
    let functions = functions(source);
    let test = functions.iter().find(|function| function.name == test).context("no such function")?;
    let has = |function: &Function<'_>| {
        let words =
            function.documentation.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
        words.into_iter().any(|word| word == id)
    };
    let is_called = |function: &&Function<'_>| {
        test.body.contains(&format!("{}(", function.name))
            || test.body.contains(&format!("{}::<", function.name))
    };
    Ok(has(test) || functions.iter().filter(is_called).any(has))
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
    let page = page()?;
    let mut count = 0;
    for path in named(&page) {
        source(path)?;
        count += 1;
    }
    ensure!(count > 100, "{count} tests are named");
    Ok(())
}

#[test]
fn every_proof_names_what_it_proves() -> Result<()> {
    let page = page()?;
    let proven = page.split("\n## ").find(|part| part.starts_with("Proven")).context("what is proven")?;
    let mut silent = Vec::new();
    let mut count = 0;
    for row in proven.lines() {
        for id in ids(row) {
            for path in named(row) {
                let (source, test) = source(path)?;
                if !says(&source, test, id)? {
                    silent.push(format!("{id}: {path}"));
                }
                count += 1;
            }
        }
    }
    ensure!(count > 100, "{count} tests are named");
    ensure!(silent.is_empty(), "tests that don't name the ID that they are to prove: {silent:#?}");
    Ok(())
}

#[test]
fn the_id_of_another_is_none() -> Result<()> {
    let source = "/// SV-13, CT-1: a test.\n#[test]\nfn named() {\n    helper();\n}\n\n/// NP-1: help.\nfn helper() {\n}\n\n\
                  #[test]\nfn silent() {\n}\n";
    let said = |test, id| says(source, test, id);
    ensure!(said("named", "SV-13")? && said("named", "CT-1")? && said("named", "NP-1")?, "not found");
    ensure!(!said("named", "SV-1")? && !said("silent", "NP-1")? && !said("silent", "CT-1")?, "found");
    Ok(())
}
