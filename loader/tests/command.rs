//! The command as a person calls it: what it prints where, and how it exits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers with it")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn loader(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loader")).args(arguments).output().unwrap()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_right_configuration_is_shown() {
    let file = example("overlay.toml");
    let output = loader(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("worker-2   10.240.1.22   overlay"));
    assert_eq!(text(&output.stderr), "");

    let output = loader(&["check", "--config", file.to_str().unwrap(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["ok"], &json["peers"][1]["vtep_mac"]), (&true.into(), &"d2:d8:a1:85:9e:38".into()));
}

#[test]
fn a_wrong_configuration_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.toml");
    fs::write(&file, "[node]\nnmae = \"a\"\naddress = [\"10.0.0.1\"]\npod-cidr = [\"10.1.0.1/24\"]\n")
        .unwrap();
    let file = file.to_str().unwrap();

    let output = loader(&["check", "--config", file]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let errors = text(&output.stderr);
    let first = format!("{file}:2:1: node.nmae: unknown key; did you mean \"name\"?\n    2 | nmae = \"a\"\n");
    assert!(errors.contains(&first), "{errors}");
    assert!(errors.ends_with(&format!("3 errors in {file}\n")), "{errors}");

    let output = loader(&["check", "--config", file, "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["ok"], json["errors"].as_array().unwrap().len()), (&false.into(), 3));
    assert_eq!(json["errors"][1]["line"], 2);
}

#[test]
fn a_file_that_is_not_there_exits_with_2() {
    let output = loader(&["check", "--config", "/nowhere/x.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("cannot read the configuration /nowhere/x.toml: No such file"));
}

#[test]
fn bad_usage_exits_with_2() {
    let bad: [&[&str]; 5] =
        [&["reload"], &["check"], &["status", "-o", "yaml"], &["conntrack", "flush"], &[]];
    for arguments in bad {
        assert_eq!(loader(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(loader(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_node_that_is_not_there_exits_with_1() {
    let output = loader(&["status", "--node", "no-such-node"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: no node") || error.contains("needs CAP_BPF"), "{error}");
}
