//! The TOML file: read strictly, every error reported with its place.
