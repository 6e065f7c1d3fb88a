//! The verbs of the `loader` command.
