//! The last word of a program that cannot go on.

use std::error::Error;

/// An error and what led to it, each once: many name their source in their own text already.
pub fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Problem {
        #[error("{path}: {source}")]
        Told { path: &'static str, source: std::io::Error },
        #[error("cannot start")]
        Bare(#[source] Box<Problem>),
    }

    #[test]
    fn each_cause_is_said_once() {
        let told = Problem::Told { path: "x", source: std::io::Error::other("gone") };
        assert_eq!(whole(&told), "x: gone");
        assert_eq!(whole(&Problem::Bare(Box::new(told))), "cannot start: x: gone");
    }
}
