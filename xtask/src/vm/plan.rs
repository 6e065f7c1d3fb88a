//! What a guest is to do: written by the host into the guest's first file system, read by the guest's first process.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Where it is in the guest.
pub(crate) const PATH: &str = "/podlane-plan.json";
/// Where the modules are in the guest, by name.
pub(crate) const MODULES: &str = "/podlane-modules";

/// Everything that a guest is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Names of modules, in the order in which to load them.
    pub(crate) modules: Vec<String>,
    /// Variables for the tests.
    pub(crate) environment: Vec<(String, String)>,
    /// How long a test binary may print nothing.
    pub(crate) patience: Duration,
    /// What takes down what a killed test has left.
    pub(crate) testbed: PathBuf,
    /// Test binaries, in order.
    pub(crate) runs: Vec<Run>,
    /// Instead of running them: a prompt.
    pub(crate) shell: bool,
}

/// A test binary to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The binary.
    pub(crate) program: PathBuf,
    /// Where it runs.
    pub(crate) directory: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
}

impl Plan {
    /// As a file.
    pub(crate) fn write(&self) -> String {
        let Self { modules, environment, patience, testbed, runs, shell } = self;
        let runs: Vec<Value> = runs
            .iter()
            .map(|Run { program, directory, arguments }| {
                json!({ "program": program, "directory": directory, "arguments": arguments })
            })
            .collect();
        let plan = json!({
            "modules": modules,
            "environment": environment,
            "patience": patience.as_secs(),
            "testbed": testbed,
            "runs": runs,
            "shell": shell,
        });
        format!("{plan:#}\n")
    }

    /// From a file.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let plan: Value = serde_json::from_str(text).context("the plan is no JSON")?;
        let environment = list(&plan, "environment")?.iter().map(|pair| {
            let word = |nth: usize| pair[nth].as_str().map(str::to_owned);
            word(0).zip(word(1)).context("a variable of the plan is no pair of words")
        });
        let runs = list(&plan, "runs")?.iter().map(|run| {
            let program = text_of(run, "program")?.into();
            let directory = text_of(run, "directory")?.into();
            Ok(Run { program, directory, arguments: words(run, "arguments")? })
        });
        Ok(Self {
            modules: words(&plan, "modules")?,
            environment: environment.collect::<Result<_>>()?,
            patience: Duration::from_secs(plan["patience"].as_u64().context("no patience in the plan")?),
            testbed: text_of(&plan, "testbed")?.into(),
            runs: runs.collect::<Result<_>>()?,
            shell: plan["shell"].as_bool().unwrap_or_default(),
        })
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("no list `{key}` in the plan"))
}

fn text_of<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no `{key}` in the plan"))
}

fn words(value: &Value, key: &str) -> Result<Vec<String>> {
    let word = |word: &Value| word.as_str().map(str::to_owned).with_context(|| format!("no word in `{key}`"));
    list(value, key)?.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let plan = Plan {
            modules: vec!["veth".to_owned()],
            environment: vec![("PODLANE_LOADER".to_owned(), "/t/loader".to_owned())],
            patience: Duration::from_mins(10),
            testbed: "/t/testbed".into(),
            runs: vec![Run {
                program: "/t/e2e".into(),
                directory: "/w/tests".into(),
                arguments: vec!["--exact".to_owned()],
            }],
            shell: true,
        };
        assert_eq!(Plan::read(&plan.write()).unwrap(), plan);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Plan::read("{}").unwrap_err().to_string();
        assert_eq!(error, "no list `environment` in the plan");
        assert_eq!(Plan::read("").unwrap_err().to_string(), "the plan is no JSON");
    }
}
