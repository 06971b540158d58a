//! (comes with its own commit)
