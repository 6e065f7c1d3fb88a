//! Packets that once were interesting, replayed on every hook: `tests/corpus/*.hex`, comments after `#`.

use std::{fs, path::Path};

use common::counters::{Hook, Reason};

use crate::{cluster::Here, invariants::decide};

/// Reads a frame, and what `from_pod` and `from_uplink` are to count it as.
fn read(path: &Path) -> (Vec<u8>, [String; 2]) {
    let text = fs::read_to_string(path).unwrap();
    let expected = |hook: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("# {hook}: ")));
        line.unwrap_or_else(|| panic!("{} does not say what {hook} makes of it", path.display())).to_owned()
    };
    let digits: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    (bytes.collect(), [expected("from_pod"), expected("from_uplink")])
}

/// PF-4, PF-5, PF-9, OV-4: each packet of the corpus, whole and cut anywhere, in every circumstance.
#[test]
fn the_corpus_is_decided_as_it_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus is not there");
    for path in files {
        let (bytes, expected) = read(&path);
        for (hook, expected) in [Hook::FromPod, Hook::FromUplink].into_iter().zip(expected) {
            let (memory, _) = decide(hook, &Here::default(), &bytes).unwrap();
            let counted = memory.counts.iter().map(|(reason, _)| reason.name()).next_back();
            assert_eq!(counted, Some(&*expected), "{} on {}", hook.name(), path.display());
        }
        for length in 0..=bytes.len() {
            for hook in Hook::OF_PACKETS {
                for refuses in [None, Some(-12)] {
                    for gso_size in [0, 1200] {
                        let here = Here { refuses, gso_size, ..Here::default() };
                        decide(hook, &here, &bytes[..length]).unwrap();
                    }
                }
            }
        }
    }
}

/// PF-4: a tag beside the packet, where the kernel keeps it: refused of a pod, nobody's business on an uplink.
#[test]
fn a_vlan_tag_is_refused_from_a_pod() {
    let here = Here { vlan: true, ..Here::default() };
    let frame = [&[2; 12][..], &[8, 0], &[0x45; 40]].concat();
    let counted = |hook| decide(hook, &here, &frame).unwrap().0.counts[0].0;
    assert_eq!(counted(Hook::FromPod), Reason::Vlan);
    assert_eq!(counted(Hook::FromUplink), Reason::Foreign);
}
