//! What the process may do, and how to get what is missing.
