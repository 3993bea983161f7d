//! The text of an unrolled shader. Drivers keep separate variables in registers, but an array only if they unroll every loop over it,
//! and not all of them do. So a shader is written as plain WGSL, with functions, loops and arrays, and rendering takes these apart
//! here, as a compiler's inlining, loop unrolling and scalar replacement of aggregates would. Three comments ask for it:
//!
//! - `//#inline` above a function without a result: every call, a statement of its own, is replaced by the function's body, without
//!   a block around it. The arguments bear the names of the parameters: `&name` for one that is a pointer.
//! - `//#unroll` above `for (var i = 0u; i < LIMIT; i++) {`, where LIMIT is a number or a `const` of the text: the body is repeated
//!   with 0u, 1u, … in place of `i`, and with the number as a suffix of the variables that it declares.
//! - `//#scalars` after `var name: array<…>;`: each element becomes a variable `name_0` or `name_0_0`, declared where it is first
//!   assigned. Once the loops are unrolled, its indices are numbers.
//!
//! A mark that cannot be followed is a mistake of this crate and panics.

use std::collections::HashMap;
use std::fmt::Write;

/// Takes apart what is marked in `lines`, the text of the shader `name` with its imports, and returns the text to compile.
pub(super) fn unroll(name: &str, lines: Vec<String>) -> String {
    let unroller = Unroller { name, limits: limits(&lines) };
    let (lines, functions) = unroller.split_functions(lines);
    let lines = unroller.inline(&lines, &functions);
    let mut unrolled = Vec::new();
    unroller.repeat(&lines, &mut Vec::new(), &mut unrolled);
    let mut text = unroller.split_arrays(unrolled).join("\n");
    text.push('\n');
    text
}

struct Unroller<'a> {
    name: &'a str,
    /// The numbers that a loop may run to: the constants of the text.
    limits: HashMap<String, u32>,
}

/// A function to inline.
struct InlineFunction {
    parameters: Vec<String>,
    /// The lines between the braces, with `(*parameter)` written as `parameter`.
    body: Vec<String>,
}

impl Unroller<'_> {
    /// Separates the functions marked `//#inline` from all other lines.
    fn split_functions(&self, lines: Vec<String>) -> (Vec<String>, HashMap<String, InlineFunction>) {
        let (mut others, mut functions) = (Vec::new(), HashMap::new());
        let mut rest = lines.into_iter();
        while let Some(line) = rest.next() {
            if line != "//#inline" {
                others.push(line);
                continue;
            }
            let mut signature = String::new();
            while !signature.ends_with('{') {
                let line = rest.next().unwrap_or_else(|| panic!("{}: //#inline above no function", self.name));
                signature.push_str(line.trim());
            }
            let (function, parameters) = parse_signature(&signature)
                .unwrap_or_else(|| panic!("{}: this function cannot be inlined: {signature}", self.name));
            let mut body: Vec<String> = rest.by_ref().take_while(|line| line != "}").collect();
            for line in &mut body {
                for parameter in &parameters {
                    *line = line.replace(&format!("(*{parameter})"), parameter);
                }
            }
            functions.insert(function, InlineFunction { parameters, body });
        }
        (others, functions)
    }

    /// Replaces calls of the functions by their bodies.
    fn inline(&self, lines: &[String], functions: &HashMap<String, InlineFunction>) -> Vec<String> {
        let mut inlined = Vec::new();
        for line in lines {
            let call = line.trim().strip_suffix(");").and_then(|call| call.split_once('('));
            let Some((function, arguments)) = call.and_then(|(name, rest)| Some((functions.get(name)?, rest))) else {
                inlined.push(line.clone());
                continue;
            };
            let arguments: Vec<&str> = arguments.split(", ").map(|argument| argument.trim_start_matches('&')).collect();
            assert_eq!(arguments, function.parameters, "{}: arguments bear the parameters' names: {line}", self.name);
            let deeper = indentation(line).saturating_sub(INDENT);
            let body: Vec<String> = function.body.iter().map(|line| format!("{}{line}", " ".repeat(deeper))).collect();
            inlined.extend(self.inline(&body, functions));
        }
        inlined
    }

    /// Repeats the bodies of loops marked `//#unroll`. `path` holds the numbers of the loops around these lines.
    fn repeat(&self, lines: &[String], path: &mut Vec<u32>, unrolled: &mut Vec<String>) {
        let mut rest = lines;
        while let Some((line, after)) = rest.split_first() {
            if line.trim() != "//#unroll" {
                unrolled.push(line.clone());
                rest = after;
                continue;
            }
            let (header, after) =
                after.split_first().unwrap_or_else(|| panic!("{}: //#unroll above nothing", self.name));
            let (variable, limit) =
                self.parse_loop(header).unwrap_or_else(|| panic!("{}: cannot be unrolled: {header}", self.name));
            let closing = format!("{}}}", " ".repeat(indentation(header)));
            let end = after.iter().position(|line| *line == closing);
            let end = end.unwrap_or_else(|| panic!("{}: no end of {header}", self.name));
            let body = &after[..end];
            for number in 0..limit {
                path.push(number);
                let suffix = path.iter().map(u32::to_string).collect::<Vec<_>>().join("_");
                let mut words = HashMap::from([(variable, format!("{number}u"))]);
                let declared = body.iter().filter(|line| indentation(line) == indentation(header) + INDENT);
                words.extend(
                    declared.filter_map(|line| declared_name(line)).map(|name| (name, format!("{name}{suffix}"))),
                );
                let numbered: Vec<String> =
                    body.iter().map(|line| replace_words(line.get(INDENT..).unwrap_or_default(), &words)).collect();
                self.repeat(&numbered, path, unrolled);
                path.pop();
            }
            rest = &after[end + 1..];
        }
    }

    /// Returns the variable and the limit of `for (var i = 0u; i < LIMIT; i++) {`.
    fn parse_loop<'line>(&self, header: &'line str) -> Option<(&'line str, u32)> {
        let (variable, rest) = header.trim().strip_prefix("for (var ")?.split_once(" = 0u; ")?;
        let limit = rest.strip_prefix(variable)?.strip_prefix(" < ")?.strip_suffix("++) {")?;
        let limit = limit.strip_suffix(variable)?.strip_suffix("; ")?;
        let number = limit.trim_end_matches('u').parse().ok();
        Some((variable, number.or_else(|| self.limits.get(limit).copied())?))
    }

    /// Makes a variable of each element of the arrays marked `//#scalars`.
    fn split_arrays(&self, lines: Vec<String>) -> Vec<String> {
        let array = |line: &str| {
            Some(line.trim().strip_suffix("//#scalars")?.strip_prefix("var ")?.split_once(':')?.0.to_owned())
        };
        let arrays: Vec<String> = lines.iter().filter_map(|line| array(line)).collect();
        let mut split: Vec<String> = lines.into_iter().filter(|line| array(line).is_none()).collect();
        let mut assignments: HashMap<String, usize> = HashMap::new();
        for line in &mut split {
            *line = self.name_elements(line, &arrays);
            if let Some((element, _)) = assignment(line, &arrays) {
                *assignments.entry(element.to_owned()).or_default() += 1;
            }
        }
        let mut declared = Vec::new();
        for line in &mut split {
            let Some((element, is_first_value)) = assignment(line, &arrays) else { continue };
            if declared.iter().any(|other| other == element) {
                continue;
            }
            assert!(is_first_value, "{}: {element} has no value yet: {line}", self.name);
            declared.push(element.to_owned());
            let keyword = if assignments[element] == 1 { "let" } else { "var" };
            line.insert_str(indentation(line), &format!("{keyword} "));
        }
        split
    }

    /// Writes `array[0u]` as `array_0`, and `array[0u][1u]` as `array_0_1`.
    fn name_elements(&self, line: &str, arrays: &[String]) -> String {
        let (code, comment) = line.split_at(line.find("//").unwrap_or(line.len()));
        let mut named = String::with_capacity(line.len());
        let mut rest = code;
        while !rest.is_empty() {
            let (word, after) = first_word(rest);
            let is_member = named.ends_with('.');
            named.push_str(word);
            rest = after;
            if is_member || !arrays.iter().any(|array| array == word) {
                continue;
            }
            let before = named.len();
            while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let Ok(index) = index.trim_end_matches('u').parse::<u32>() else { break };
                write!(named, "_{index}").expect("a string grows");
                rest = after;
            }
            let is_element = named.len() > before && !rest.starts_with('[');
            assert!(is_element, "{}: {word} is used other than by a number: {line}", self.name);
        }
        named + comment
    }
}

/// Spaces of one level.
const INDENT: usize = 4;

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Returns the constants of the text that have a number.
fn limits(lines: &[String]) -> HashMap<String, u32> {
    let constant = |line: &String| {
        let (name, value) = line.strip_prefix("const ")?.split_once(": u32 = ")?;
        Some((name.to_owned(), value.split_once("u;")?.0.parse().ok()?))
    };
    lines.iter().filter_map(constant).collect()
}

/// Returns the names of a function and of its parameters.
fn parse_signature(signature: &str) -> Option<(String, Vec<String>)> {
    let (function, parameters) = signature.strip_prefix("fn ")?.strip_suffix(") {")?.split_once('(')?;
    let mut names: Vec<String> =
        parameters.split(':').filter_map(|part| Some(part.rsplit([',', ' ']).next()?.to_owned())).collect();
    // What follows the last colon is a type.
    names.pop();
    Some((function.to_owned(), names))
}

/// Returns the variable that a line declares.
fn declared_name(line: &str) -> Option<&str> {
    let line = line.trim();
    let rest = line.strip_prefix("let ").or_else(|| line.strip_prefix("var "))?;
    Some(first_word(rest).0)
}

/// Returns the element of one of the arrays that a line assigns to, and whether it gives it a first value.
fn assignment<'line>(line: &'line str, arrays: &[String]) -> Option<(&'line str, bool)> {
    let (element, rest) = line.trim().split_once(' ')?;
    let is_element = arrays.iter().any(|array| {
        let indices = element.strip_prefix(array.as_str()).and_then(|rest| rest.strip_prefix('_'));
        indices.is_some_and(|indices| indices.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_'))
    });
    let operator = rest.split(' ').next()?;
    (is_element && operator.ends_with('=') && operator != "==").then_some((element, operator == "="))
}

/// Replaces whole words, except members.
fn replace_words(line: &str, words: &HashMap<&str, String>) -> String {
    let mut replaced = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let (word, after) = first_word(rest);
        let is_member = replaced.ends_with('.');
        replaced.push_str(words.get(word).filter(|_| !is_member).map_or(word, String::as_str));
        rest = after;
    }
    replaced
}

/// Splits off the first word, or the first character where no word begins.
fn first_word(text: &str) -> (&str, &str) {
    let end = text.find(|at: char| !at.is_ascii_alphanumeric() && at != '_').unwrap_or(text.len());
    text.split_at(if end > 0 { end } else { text.chars().next().map_or(0, char::len_utf8) })
}

#[cfg(test)]
mod tests {
    use super::unroll;

    fn unrolled(text: &str) -> String {
        unroll("test", text.lines().map(str::to_owned).collect())
    }

    #[test]
    fn loops_are_repeated_within_one_another_as_often_as_a_constant_says() {
        let text = "const A: u32 = 2u;\n//#unroll\nfor (var i = 0u; i < A; i++) {\n    let x = i;\n    //#unroll\n    for (var j = 0u; j < 2u; j++) {\n        let y = x + j + z.x;\n    }\n}\n";
        let want = "const A: u32 = 2u;\nlet x0 = 0u;\nlet y0_0 = x0 + 0u + z.x;\nlet y0_1 = x0 + 1u + z.x;\nlet x1 = 1u;\nlet y1_0 = x1 + 0u + z.x;\nlet y1_1 = x1 + 1u + z.x;\n";
        assert_eq!(unrolled(text), want);
    }

    #[test]
    fn elements_become_variables_where_they_are_first_assigned() {
        let text = "    var a: array<u32, 2>; //#scalars\n    var b: array<array<u32, 1>, 1>; //#scalars\n    a[0u] = 1u;\n    b[0u][0] = a[0];\n    b[0][0] += 2u;\n";
        assert_eq!(unrolled(text), "    let a_0 = 1u;\n    var b_0_0 = a_0;\n    b_0_0 += 2u;\n");
    }

    #[test]
    fn calls_become_the_bodies_of_functions() {
        let text = "//#inline\nfn add(\n    a: ptr<function, array<u32, 2>>,\n    k: u32,\n) {\n    (*a)[0u] += k;\n}\n//#inline\nfn both(a: ptr<function, array<u32, 2>>, k: u32) {\n    add(a, k);\n}\n{\n        both(&a, k);\n}\n";
        assert_eq!(unrolled(text), "{\n        a[0u] += k;\n}\n");
    }

    #[test]
    #[should_panic(expected = "cannot be unrolled: for (var i = 0u; i < B; i++) {")]
    fn a_loop_to_an_unknown_limit_is_refused() {
        unrolled("//#unroll\nfor (var i = 0u; i < B; i++) {\n}\n");
    }

    #[test]
    #[should_panic(expected = "no end of for")]
    fn a_loop_without_an_end_is_refused() {
        unrolled("//#unroll\nfor (var i = 0u; i < 2u; i++) {\n");
    }

    #[test]
    #[should_panic(expected = "arguments bear the parameters' names")]
    fn an_argument_of_another_name_is_refused() {
        unrolled("//#inline\nfn f(a: u32) {\n}\nf(b);\n");
    }

    #[test]
    #[should_panic(expected = "a is used other than by a number")]
    fn an_index_that_is_unknown_is_refused() {
        unrolled("var a: array<u32, 2>; //#scalars\nx = a[i];\n");
    }

    #[test]
    #[should_panic(expected = "a_0 has no value yet")]
    fn an_element_without_a_first_value_is_refused() {
        unrolled("var a: array<u32, 2>; //#scalars\na[0] += 1u;\n");
    }
}
