//! Index order respects real time: what began after something had ended comes after it in the log. Reads too, but those
//! that asked for what may be old.

use super::Findings;
use crate::op::Op;

/// Judges all attempts, sorted by invocation or not.
pub fn judge(ops: &[Op], findings: &mut Findings) {
    let mut by_answer: Vec<&Op> = ops.iter().filter(|op| op.answer.index().is_some()).collect();
    let mut by_invocation = by_answer.clone();
    by_answer.sort_by_key(|op| op.answered_us);
    by_invocation.sort_by_key(|op| op.invoked_us);
    let mut ended = by_answer.into_iter().peekable();
    let mut newest: Option<&Op> = None;
    for op in by_invocation {
        while let Some(before) = ended.next_if(|before| before.answered_us < op.invoked_us) {
            if before.answer.index() > newest.and_then(|newest| newest.answer.index()) {
                newest = Some(before);
            }
        }
        let (Some(before), Some(index)) = (newest, op.answer.index()) else { continue };
        let floor = before.answer.index().unwrap_or(0);
        if op.answer.is_of_an_entry() && index <= floor {
            findings.add(format!("a command is not after what was answered before it was sent:\n  {before}\n  {op}"));
        } else if !op.call.is_stale() && index < floor {
            findings.add(format!("a read is older than what was answered before it was asked:\n  {before}\n  {op}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Answer, Call, Place};

    fn op(times: (u64, u64), call: Call, answer: Answer) -> Op {
        Op { client: 0, at: 0, request: None, call, invoked_us: times.0, answered_us: times.1, answer }
    }

    fn write(times: (u64, u64), index: u64) -> Op {
        op(times, Call::Remove { name: "a".into() }, Answer::Done { id: "x".into(), version: index, index })
    }

    fn read(times: (u64, u64), index: u64, is_stale: bool) -> Op {
        op(times, Call::List { is_stale }, Answer::Services { index, services: Vec::new() })
    }

    fn found(ops: &[Op]) -> usize {
        let mut findings = Findings::default();
        judge(ops, &mut findings);
        findings.violations.len()
    }

    #[test]
    fn what_overlaps_may_be_in_any_order_and_what_follows_may_not() {
        assert_eq!(found(&[write((0, 10), 7), write((5, 15), 6), write((20, 30), 8)]), 0);
        assert_eq!(found(&[write((0, 10), 7), write((11, 15), 6)]), 1);
        // An entry is of one command.
        assert_eq!(found(&[write((0, 10), 7), write((11, 15), 7)]), 1);
    }

    #[test]
    fn a_read_is_as_new_as_what_was_answered_before_unless_it_may_be_old() {
        assert_eq!(found(&[write((0, 10), 7), read((11, 15), 7, false)]), 0);
        assert_eq!(found(&[write((0, 10), 7), read((11, 15), 6, false)]), 1);
        assert_eq!(found(&[write((0, 10), 7), read((11, 15), 3, true)]), 0);
        // What anybody has seen, others see from then on.
        assert_eq!(found(&[read((0, 10), 7, true), read((11, 15), 6, false)]), 1);
    }

    #[test]
    fn a_command_after_a_read_is_not_in_what_was_read_even_where_the_read_may_be_old() {
        assert_eq!(found(&[read((0, 10), 7, true), write((11, 15), 7)]), 1);
    }

    #[test]
    fn a_refusal_has_a_place_like_an_answer() {
        let refused = |place| Answer::Refused { code: tonic::Code::NotFound, text: String::new(), place };
        let late = |place| op((11, 15), Call::Remove { name: "b".into() }, refused(place));
        assert_eq!(found(&[write((0, 10), 7), late(Place::Log(7))]), 1);
        assert_eq!(found(&[write((0, 10), 7), late(Place::Read(7))]), 0);
        assert_eq!(found(&[write((0, 10), 7), late(Place::Read(6))]), 1);
    }

    #[test]
    fn what_is_unknown_says_nothing() {
        let unknown = op((11, 15), Call::Remove { name: "b".into() }, Answer::Unknown { why: String::new() });
        assert_eq!(found(&[write((0, 10), 7), unknown, write((20, 30), 8)]), 0);
    }
}
