//! What the guest's kernel prints: which lines of it mean that something is wrong.

/// A text in a line of the kernel's log, and what a line that has it means.
struct Sign {
    text: &'static str,
    meaning: &'static str,
}

const fn sign(text: &'static str, meaning: &'static str) -> Sign {
    Sign { text, meaning }
}

/// The first that is found in a line counts.
const SIGNS: [Sign; 16] = [
    sign("Kernel panic", "panic"),
    sign("soft lockup", "lockup"),
    sign("hard LOCKUP", "lockup"),
    sign("rcu: INFO:", "RCU stall"),
    sign("self-detected stall", "RCU stall"),
    sign("detected stalls", "RCU stall"),
    sign("detected expedited stalls", "RCU stall"),
    sign("hw csum failure", "checksum failure"),
    sign("blocked for more than", "hung task"),
    sign("Oops", "oops"),
    sign("general protection fault", "oops"),
    sign("BUG:", "bug"),
    sign("kernel BUG at", "bug"),
    sign("WARNING:", "warning"),
    sign("invoked oom-killer", "out of memory"),
    sign("unregister_netdevice: waiting for", "leaked device"),
];

/// Lines that have a sign and mean nothing, with the reason.
const ALLOWED: [(&str, &str); 2] = [
    ("TSC doesn't count with P0 frequency", "an emulated processor has no such frequency"),
    // In full: "WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks".
    ("mitigation leaves CPU vulnerable", "guests run without mitigations, which is not what is tested"),
];

/// A line of the log that means that something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// In a word or two.
    pub(crate) meaning: &'static str,
    /// The line, without its time.
    pub(crate) line: String,
}

/// What is wrong by a line of the console, which the kernel shares with whatever programs print there.
pub(crate) fn judge(line: &str) -> Option<Finding> {
    let text = message(line)?;
    if ALLOWED.iter().any(|(allowed, _)| text.contains(allowed)) {
        return None;
    }
    let Sign { meaning, .. } = SIGNS.iter().find(|sign| text.contains(sign.text))?;
    Some(Finding { meaning, line: text.to_owned() })
}

/// The kernel's words in `[   12.345678] words`, or nothing where the line is not the kernel's.
pub(crate) fn message(line: &str) -> Option<&str> {
    let (time, text) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let is_time = time.contains('.')
        && time.trim_start().chars().all(|character| character.is_ascii_digit() || character == '.');
    is_time.then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(line: &str) -> Option<&'static str> {
        judge(line).map(|finding| finding.meaning)
    }

    #[test]
    fn what_is_wrong_is_seen() {
        for (line, expected) in [
            ("[    1.234567] Kernel panic - not syncing: Fatal exception in interrupt", "panic"),
            ("[   61.000001] watchdog: BUG: soft lockup - CPU#1 stuck for 67s! [ping:812]", "lockup"),
            ("[   12.000000] WARNING: CPU: 0 PID: 99 at net/core/dev.c:3150 skb_warn_bad_offload", "warning"),
            ("[   12.000000] eth0: hw csum failure", "checksum failure"),
            ("[  121.5] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "RCU stall"),
            ("[  243.1] INFO: task loader:77 blocked for more than 120 seconds.", "hung task"),
            ("[    9.9] BUG: kernel NULL pointer dereference, address: 0000000000000008", "bug"),
            ("[    9.9] Oops: 0000 [#1] PREEMPT SMP NOPTI", "oops"),
            (
                "[   88.0] unregister_netdevice: waiting for veth0 to become free. Usage count = 2",
                "leaked device",
            ),
        ] {
            assert_eq!(meaning(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_finding_is_told_without_its_time() {
        assert_eq!(judge("[  9.9] BUG: x").map(|finding| finding.line).as_deref(), Some("BUG: x"));
    }

    #[test]
    fn ordinary_lines_and_programs_are_no_finding() {
        for line in [
            "[    0.512345] PCI: Using configuration type 1 for base access",
            "[    0.1] Spectre V2 : WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks",
            "WARNING: something that a test says about itself",
            "[test] BUG: not a time",
            "",
        ] {
            assert_eq!(meaning(line), None, "{line}");
        }
    }
}
