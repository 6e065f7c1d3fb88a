//! What a person or a machine does wrong: a clear word, the right exit code, and nothing that worked is lost.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use testbed::{
    cluster, loader,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::{Ping, ping},
    wait,
};

/// Exit code for a wrong command line or configuration.
const USAGE: i32 = 2;
/// Exit code for what went wrong.
const FAILED: i32 = 1;

/// Changes to a right configuration, and what the loader has to say of each.
fn wrong(right: &str) -> Vec<(&'static str, String, Vec<&'static str>)> {
    let replaced = |from: &str, to: &str| right.replacen(from, to, 1);
    let pod = right.split("[[pod]]").nth(1).unwrap_or_default();
    vec![
        ("an unknown key", replaced("pod-cidr", "pod-cdir"), vec!["pod-cdir", "pod-cidr"]),
        (
            "two wrong things at once",
            replaced("vni = 1", "vni = 16777216\nprot = 1"),
            vec!["16777215", "prot"],
        ),
        ("no TOML", replaced("[overlay]", "[overlay"), vec!["[overlay"]),
        ("a pod twice", format!("{right}\n[[pod]]{pod}"), vec!["default/pod-0-0"]),
        (
            "an address outside the pod CIDR",
            replaced("10.200.0.10", "10.99.0.10"),
            vec!["10.99.0.10", "pod-cidr"],
        ),
        (
            "an overlay that is too narrow for IPv6",
            replaced("port = 8472", "port = 8472\nmtu = 1200"),
            vec!["1280"],
        ),
        ("a MAC address that is none", replaced("0a:77", "xx:77"), vec!["xx:77"]),
        (
            "a peer with the node's own pod CIDR",
            format!(
                "{right}\n[[peer]]\nname = \"other\"\naddress = [\"10.240.0.99\"]\npod-cidr = [\"10.200.0.128/25\"]\n"
            ),
            vec!["10.200.0.128/25", "10.200.0.0/24"],
        ),
    ]
}

/// Bad input: `check` and `run` refuse a wrong file with exit code 2, each naming what is wrong and where.
#[test]
fn wrong_files_are_refused() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().build()?;
    let node = &cluster.podlane[0];
    node.write_config()?;
    let path = node.config_path();
    let right = std::fs::read_to_string(&path).context("read the configuration")?;
    let path = path.to_string_lossy().into_owned();
    let answer = node.verb(&["check", "--config", &path])?;
    ensure!(answer.code == 0, "check of a right file ended with {}: {}", answer.code, answer.stderr);
    for (case, text, words) in wrong(&right) {
        ensure!(text != right, "{case}: nothing was changed in\n{right}");
        node.write_config_text(&text)?;
        for verb in ["check", "run"] {
            let answer = node.verb(&[verb, "--config", &path])?;
            let said = format!("{}{}", answer.stdout, answer.stderr);
            ensure!(answer.code == USAGE, "{case}: {verb} ended with {}: {said}", answer.code);
            for word in &words {
                ensure!(said.contains(word), "{case}: {verb} does not say `{word}`: {said}");
            }
        }
    }
    ensure!(!node.pins().exists(), "a refused file has left pins");
    Ok(())
}

/// Bad input: a wrong file at a reload is refused whole; the old state stays and the loader says so; the next right file
/// is taken.
#[test]
fn a_wrong_file_at_a_reload_changes_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().start()?;
    let node = &mut cluster.podlane[0];
    let right = std::fs::read_to_string(node.config_path()).context("read the configuration")?;
    let before = node.state()?["pods"].clone();
    for (case, text, words) in wrong(&right) {
        node.write_config_text(&text)?;
        node.loader()?.signal(Signal::SIGHUP)?;
        wait::until(&format!("the loader to refuse {case}"), || {
            let reload = node.state()?["last_reload"].clone();
            let said = reload["error"].to_string();
            let refused = reload["ok"] == false && words.iter().all(|word| said.contains(word));
            ensure!(refused, "{reload}");
            Ok(Some(()))
        })?;
        ensure!(node.state()?["pods"] == before, "{case}: pods have changed");
        ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    }
    node.config.pods.truncate(2);
    node.reload()?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ping { count: 1, ..Ping::default() }.must_not_reach(&node.pods[0].netns, node.pods[2].v4()?.into())
}

/// A file that changes is taken without a signal.
#[test]
fn a_changed_file_is_taken_by_itself() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    let last = node.config.pods.split_off(2);
    node.start()?;
    node.config.pods.extend(last);
    node.write_config()?;
    node.wait_for_pods()?;
    ping(&node.pods[0].netns, node.pods[2].v4()?)?;
    Ok(())
}

/// What `loader run` says and ends with when it can't serve the node.
fn refuses(node: &PodlaneNode, case: &str, code: i32, words: &[&str]) -> Result<()> {
    node.write_config()?;
    let answer = node.verb(&["run", "--config", &node.config_path().to_string_lossy()])?;
    ensure!(answer.code == code, "{case}: ended with {}: {}", answer.code, answer.stderr);
    for word in words {
        ensure!(answer.stderr.contains(word), "{case}: does not say `{word}`: {}", answer.stderr);
    }
    Ok(())
}

/// Bad input: an uplink that is not there.
#[test]
fn a_missing_uplink_is_named() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.node.uplink = vec!["eth7".to_owned()];
    refuses(node, "an uplink that is not there", FAILED, &["eth7"])
}

/// Bad input: a device of somebody else under the gateway's name is left alone.
#[test]
fn somebody_elses_device_is_left_alone() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().build()?;
    let node = &cluster.podlane[0];
    node.netns.ip("link add podlane0 type veth peer name other")?;
    let before = node.netns.ifindex("podlane0")?;
    refuses(node, "a device under the gateway's name", FAILED, &["podlane0"])?;
    ensure!(node.netns.ifindex("podlane0")? == before, "somebody else's device was replaced");
    Ok(())
}

/// Bad input: `eth0` of a pod's namespace is somebody else's; the other pods are served all the same.
#[test]
fn a_pod_with_a_device_of_somebody_else_waits() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.pods[2].netns.ip("link add eth0 type veth peer name other")?;
    let before = node.pods[2].netns.ifindex("eth0")?;
    node.write_config()?;
    node.config.pods.truncate(2);
    node.start_loader()?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    let state = node.state()?;
    let said = format!("{}{}", state["waiting"], state["problems"]);
    ensure!(said.contains("default/pod-0-2") && said.contains("eth0"), "{said}");
    ensure!(node.pods[2].netns.ifindex("eth0")? == before, "somebody else's device was replaced");
    Ok(())
}

/// Bad input: more pods than the map has room for: said in so many words, and those that fit are served.
#[test]
fn a_full_map_is_said_to_be_full() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.maps.insert("pods".to_owned(), 2);
    node.write_config()?;
    let answer = node.verb(&["check", "--config", &node.config_path().to_string_lossy()])?;
    let said = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(answer.code == USAGE && said.contains("pods"), "check ended with {}: {said}", answer.code);
    refuses(node, "three pods in a map for two", USAGE, &["pods"])
}

/// Bad input: a map that fills up at a reload: refused, and the pods that there are go on.
#[test]
fn a_map_that_fills_up_at_a_reload_changes_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    let last = node.config.pods.split_off(2);
    node.config.maps.insert("pods".to_owned(), 2);
    node.start()?;
    node.config.pods.extend(last);
    node.write_config()?;
    node.loader()?.signal(Signal::SIGHUP)?;
    wait::until("the loader to refuse a third pod", || {
        let reload = node.state()?["last_reload"].clone();
        Ok((reload["ok"] == false).then_some(()))
    })?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}

/// Bad input: without root, and without the capability alone: said at once, with what is missing.
#[test]
fn without_privileges_the_loader_says_what_is_missing() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().build()?;
    let node = &cluster.podlane[0];
    node.write_config()?;
    // Where nobody can read it.
    let config = std::env::temp_dir().join(format!("{}.toml", node.spec.name));
    std::fs::copy(node.config_path(), &config).context("copy the configuration")?;
    let program = std::env::temp_dir().join(format!("{}-loader", node.spec.name));
    std::fs::copy(loader::binary()?, &program).context("copy the loader")?;
    // Nobody may not enter the node's namespace either.
    let output = Command::new(&program).args(["run", "--config"]).arg(&config).uid(65534).gid(65534).output();
    let removed = [std::fs::remove_file(&config), std::fs::remove_file(&program)];
    ensure!(removed.iter().all(Result::is_ok), "{removed:?}");
    let output = output.context("start the loader as nobody")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(FAILED), "ended with {}: {said}", output.status);
    ensure!(said.contains("CAP_") || said.contains("root"), "does not say what is missing: {said}");
    Ok(())
}

/// Bad input: verbs for a node that is not there say so.
#[test]
fn verbs_for_an_unknown_node_say_so() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let netns = &cluster.podlane[0].netns;
    for verb in ["status", "counters", "pods", "peers"] {
        let answer = loader::verb(netns, &[verb, "--node", "no-such-node"])?;
        ensure!(answer.code == FAILED, "{verb} ended with {}: {}", answer.code, answer.stderr);
        ensure!(answer.stderr.contains("no-such-node"), "{verb}: {}", answer.stderr);
    }
    let answer = loader::verb(netns, &["counters", "--no-such-option"])?;
    ensure!(answer.code == USAGE, "ended with {}", answer.code);
    Ok(())
}
