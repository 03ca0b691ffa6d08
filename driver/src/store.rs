//! Builders on disk: versioned, written atomically, intact after a kill at any moment.
