//! What the tests of the tree measure with. The end-to-end tests, and what is asked of the tree, are in `tests/`.

pub mod functions;
pub mod manifest;
pub mod ratchet;
pub mod tree;
