//! End-to-end tests of GOAT and the tests of the tree itself. Everything is in `tests/`.
