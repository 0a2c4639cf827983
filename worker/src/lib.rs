//! The worker agent. Its pieces stand beside this file and are not modules yet: they become so when they compile
//! together (ARCHITECTURE.md, "Not there yet").
#![forbid(unsafe_code)]
