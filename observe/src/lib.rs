//! What a running program shows of itself: whether it lives and can serve, its metrics, its last log lines. Knows neither
//! managers nor workers: they say what there is to show.
//!
//! | module | what |
//! | --- | --- |
//! | [`pages`] | `/healthz`, `/readyz`, `/metrics` over plain HTTP |
//! | [`metric`] | a metric's name and meaning, and how its value gets onto the page |
//! | [`process`] | what the system says of this process |
//! | [`ring`] | the last log lines, in memory |
//!
//! No global state: whoever has something to show hands it over.
#![forbid(unsafe_code)]

pub mod metric;
pub mod pages;
pub mod process;
pub mod ring;

pub use metric::{Kind, Metric, Sheet};
pub use pages::{Readiness, Site};
pub use ring::Ring;
