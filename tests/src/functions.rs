//! Functions as they stand in a text that rustfmt has formatted: one begins with `fn`, and ends with a brace at the same
//! depth. Line by line, without a parser.

/// One function, measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// From its first line to its closing brace; attributes and comments above it do not count.
    pub lines: usize,
    /// `self` is one.
    pub parameters: usize,
}

/// All functions of a text that have a body.
pub fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(after) = declaration(line.trim_start()) else { continue };
        let name = after.split(['(', '<']).next().unwrap_or_default().to_owned();
        let Some(end) = lines[at..].iter().position(|line| line.trim_end().ends_with(['{', ';', '}'])) else {
            continue;
        };
        let signature = lines[at..=at + end].join("\n");
        let length = match signature.chars().last() {
            Some('{') => {
                let closing = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
                lines[at..].iter().position(|line| *line == closing).map(|last| last + 1)
            }
            // All on one line.
            Some('}') => Some(end + 1),
            _ => None,
        };
        let Some(length) = length else { continue };
        found.push(Function { lines: length, parameters: parameters(&signature, &name), name });
    }
    found
}

/// What follows `fn `, where a line declares a function.
fn declaration(code: &str) -> Option<&str> {
    let mut rest = code;
    if let Some(after) = rest.strip_prefix("pub") {
        let visible = after.strip_prefix('(').and_then(|scope| scope.split_once(')')).map_or(after, |(_, rest)| rest);
        rest = visible.strip_prefix(' ')?;
    }
    while let Some(after) =
        ["async ", "const ", "unsafe ", "extern \"C\" "].iter().find_map(|word| rest.strip_prefix(word))
    {
        rest = after;
    }
    rest.strip_prefix("fn ")
}

/// Counts commas at depth one of the first parenthesis.
fn parameters(signature: &str, name: &str) -> usize {
    let named = signature.find(&format!("fn {name}")).unwrap_or_default();
    let after_name = named + 3 + name.len();
    let Some(start) = opening(&signature[after_name..]).map(|at| after_name + at) else {
        return 0;
    };
    let (mut depth, mut count, mut has_text) = (0, 0, false);
    for (at, character) in signature[start..].char_indices() {
        match character {
            '(' | '[' | '{' | '<' => {
                has_text |= depth == 1;
                depth += 1;
            }
            // Not of an arrow.
            '>' if signature[start..start + at].ends_with(['-', '=']) => {}
            ')' | ']' | '}' | '>' => {
                depth -= 1;
                if depth == 0 {
                    return count + usize::from(has_text);
                }
            }
            ',' if depth == 1 => {
                count += 1;
                has_text = false;
            }
            character if !character.is_whitespace() && depth == 1 => has_text = true,
            _ => {}
        }
    }
    count
}

/// Where the parameters begin: after the generics, which may have parentheses of their own.
fn opening(after_name: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in after_name.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if !after_name[..at].ends_with(['-', '=']) => depth -= 1,
            '(' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(text: &str) -> Vec<(String, usize, usize)> {
        functions(text).into_iter().map(|function| (function.name, function.lines, function.parameters)).collect()
    }

    #[test]
    fn lines_and_parameters_are_counted_as_people_do() {
        let method = "impl A {\n    pub(crate) async fn two(\n        &self,\n        map: BTreeMap<u64, Vec<u8>>,\n    ) -> \
                      Result<(), Error> {\n        a\n    }\n}\n";
        assert_eq!(measured(method), [("two".into(), 6, 2)]);
        assert_eq!(measured("pub const fn none() {\n}\n"), [("none".into(), 2, 0)]);
        assert_eq!(measured("fn f(a: impl Fn(u8, u8) -> u8, (b, c): (u8, u8)) {}\n"), [("f".into(), 1, 2)]);
        assert_eq!(measured("fn g<F: Fn(u8, u8) -> u8>(f: F) {\n}\n"), [("g".into(), 2, 1)]);
    }

    #[test]
    fn a_declaration_without_a_body_does_not_end_with_the_next_functions_brace() {
        let text = "trait A {\n    fn bare(&self, a: u8);\n\n    fn whole(&self) {\n        b\n    }\n}\n";
        assert_eq!(measured(text), [("whole".into(), 3, 1)]);
    }

    #[test]
    fn words_that_only_look_like_functions_are_none() {
        assert_eq!(measured("// fn a() {}\nlet fn_b = 1;\npublish fn c() {\n}\n"), []);
    }
}
