//! A list of what is known to be too much: each number on it may only fall, and the list follows it down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What has to change in the list or in the tree; the empty text where they agree.
pub fn differences(measured: &BTreeMap<String, usize>, known: &[(&str, usize)]) -> String {
    let known: BTreeMap<&str, usize> = known.iter().copied().collect();
    let mut text = String::new();
    for (name, size) in measured {
        let advice = match known.get(name.as_str()) {
            None => "new: mend it".to_owned(),
            Some(before) if size > before => format!("was {before}: mend it"),
            Some(before) if size < before => format!("was {before}: put the new number on the list"),
            Some(_) => continue,
        };
        writeln!(text, "    (\"{name}\", {size}),  // {advice}").expect("a string takes everything");
    }
    for name in known.keys().filter(|name| !measured.contains_key(**name)) {
        writeln!(text, "    \"{name}\"  // none any more: take it off the list").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_may_only_fall_and_the_list_says_the_new_one() {
        let measured = |size| BTreeMap::from([("a".to_owned(), size)]);
        assert_eq!(differences(&measured(5), &[("a", 5)]), "");
        assert!(differences(&measured(6), &[("a", 5)]).contains("(\"a\", 6),  // was 5: mend it"));
        assert!(differences(&measured(4), &[("a", 5)]).contains("(\"a\", 4),  // was 5: put the new number"));
        assert!(differences(&measured(4), &[]).contains("new: mend it"));
        assert!(differences(&BTreeMap::new(), &[("a", 5)]).contains("take it off the list"));
    }
}
