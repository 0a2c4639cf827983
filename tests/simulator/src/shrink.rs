//! Leaves out of a failing script what its failure does not need (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002).

use crate::script::{Event, Script};
use crate::world::World;

/// Runs at the most.
const MOST_RUNS: usize = 3_000;

/// What the failure is about, without its figures: another failure is not what is looked for.
fn kind(failure: &str) -> String {
    let words = failure.split(|c: char| !c.is_ascii_alphabetic());
    words.filter(|word| word.len() > 3).take(12).collect::<Vec<_>>().join(" ")
}

/// A shorter script that fails alike, and how. None where this one does not fail.
pub fn shrink(script: &Script, tell: impl Fn(usize, usize)) -> Option<(Script, String)> {
    let failure = World::new(script.clone()).run().failure?;
    let wanted = kind(&failure);
    let mut best = (script.clone(), failure);
    let (mut runs, mut parts, mut from) = (0, 2, 0);
    while best.0.events.len() > 1 && runs < MOST_RUNS {
        let size = best.0.events.len().div_ceil(parts);
        let mut found = None;
        // Goes on where it has just been lucky, or was last.
        for step in 0..parts {
            let at = (from + step) % parts;
            let all = best.0.events.iter().enumerate();
            let left: Vec<Event> = all.filter(|(n, _)| n / size != at).map(|(_, event)| event.clone()).collect();
            if left.len() == best.0.events.len() {
                continue;
            }
            let shorter = Script { events: left, ..best.0.clone() };
            runs += 1;
            let failure = World::new(shorter.clone()).run().failure.filter(|failure| kind(failure) == wanted);
            if let Some(failure) = failure {
                from = at;
                found = Some((shorter, failure));
                break;
            }
        }
        match found {
            Some(shorter) => {
                best = shorter;
                parts = parts.saturating_sub(1).max(2);
                tell(best.0.events.len(), runs);
            }
            None if size <= 1 => break,
            None => parts = (2 * parts).min(best.0.events.len()),
        }
    }
    Some(best)
}
