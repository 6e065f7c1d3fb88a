//! What the verbs print: gathered from pinned maps and the state file; works while no loader runs.
