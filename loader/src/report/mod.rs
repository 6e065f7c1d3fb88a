//! What the verbs print.
