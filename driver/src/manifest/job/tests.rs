//! Whole Jobs against the golden files in `testdata/jobs`, and the scripts of the context as a shell runs them.
