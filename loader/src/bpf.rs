//! BPF programs: load, pin, attach.
