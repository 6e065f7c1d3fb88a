//! What the guest says to the host, line by line, between the lines that its tests print.

use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use crate::child::End;

/// How a line begins that is the guest's own.
const MARK: &str = "@@";

/// A line of the guest's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// It is up: the release of its kernel.
    Booted(String),
    /// The run of that number in the plan begins; what follows is its output.
    Start(usize),
    /// It has ended.
    End(usize, End),
    /// Something that a person may want to know.
    Note(String),
    /// It can't go on.
    Error(String),
    /// Every run has ended.
    Done,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted(release) => write!(f, "{MARK}booted {release}"),
            Self::Start(number) => write!(f, "{MARK}start {number}"),
            Self::End(number, End::Exited(status)) => write!(f, "{MARK}end {number} {}", status.into_raw()),
            Self::End(number, _) => write!(f, "{MARK}end {number} hung"),
            Self::Note(text) => write!(f, "{MARK}note {}", one_line(text)),
            Self::Error(text) => write!(f, "{MARK}error {}", one_line(text)),
            Self::Done => write!(f, "{MARK}done"),
        }
    }
}

/// A message is one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Message {
    /// The message in a line, if it is one.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix(MARK)?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "booted" => Some(Self::Booted(rest.to_owned())),
            "start" => rest.parse().ok().map(Self::Start),
            "end" => {
                let (number, how) = rest.split_once(' ')?;
                let end = match how {
                    "hung" => End::Hung,
                    status => End::Exited(ExitStatus::from_raw(status.parse().ok()?)),
                };
                Some(Self::End(number.parse().ok()?, end))
            }
            "note" => Some(Self::Note(rest.to_owned())),
            "error" => Some(Self::Error(rest.to_owned())),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let said = [
            Message::Booted("6.12.117+deb12-cloud-amd64".to_owned()),
            Message::Start(3),
            Message::End(3, End::Exited(ExitStatus::from_raw(101 << 8))),
            Message::End(3, End::Exited(ExitStatus::from_raw(11))),
            Message::End(4, End::Hung),
            Message::Note("two words".to_owned()),
            Message::Error("no BTF".to_owned()),
            Message::Done,
        ];
        for message in said {
            assert_eq!(Message::parse(&message.to_string()), Some(message));
        }
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Message::Error("one\n two".to_owned()).to_string(), "@@error one two");
    }

    #[test]
    fn what_tests_print_is_no_message() {
        for line in ["test a ... ok", "", "@@", "@@end 3", "@@start first", "@@end 3 well", " @@done"] {
            assert_eq!(Message::parse(line), None, "{line}");
        }
    }
}
