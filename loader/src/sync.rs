//! Maps: desired entries, and the difference to what the maps hold.
