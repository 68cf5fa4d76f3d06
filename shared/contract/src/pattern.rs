//! Patterns: ECMA-262 as JSON Schema asks, on a matcher that takes linear time.
//!
//! What needs backtracking (look-around, back references) is refused. `\d`, `\w`, `\s` and `\b` mean what they mean in
//! ECMA-262, which is less than the matcher's own reading of them.

use regex::{Regex, RegexBuilder};

use crate::shape::Shape;

/// Compiled size of one pattern. Linear time is in this and in the text: a larger one is slow on long texts.
const SIZE_LIMIT: usize = 1 << 18;
/// Characters of a pattern.
const LENGTH_LIMIT: usize = 4096;

/// A compiled pattern and its text.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    regex: Regex,
    shape: Option<Shape>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Pattern {
    /// Compiles a pattern; says what is wrong with it otherwise.
    pub fn new(written: &str) -> Result<Self, String> {
        if written.len() > LENGTH_LIMIT {
            return Err(format!("it has more than {LENGTH_LIMIT} bytes"));
        }
        let translated = translate(written)?;
        let regex =
            RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).nest_limit(50).build().map_err(
                |error| {
                    let reason = error.to_string();
                    reason
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim()
                        .trim_start_matches("error: ")
                        .to_owned()
                },
            )?;
        let shape = Shape::of(&translated);
        Ok(Self { written: written.to_owned(), regex, shape })
    }

    /// Whether matching is as cheap as remembering would be.
    #[cfg(feature = "arrow")]
    pub(crate) fn is_cheap(&self) -> bool {
        self.shape.is_some()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it matches anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        if let Some(shape) = &self.shape {
            return shape.is_match(text);
        }
        self.regex.is_match(text)
    }
}

/// ECMA-262's white space and line terminators.
const SPACE: &str =
    r"\t\n\x0B\x0C\r\x20\xA0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF";

/// A class has to say whether a hyphen is one.
const RANGE: &str = r"write a hyphen in a class as \-";

/// From ECMA-262 to the matcher's syntax.
fn translate(written: &str) -> Result<String, String> {
    let mut out = String::with_capacity(written.len() + 16);
    let mut chars = written.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().ok_or("it ends in a backslash")?;
                let inner = match escaped {
                    'd' | 'D' => "0-9",
                    'w' | 'W' => "0-9A-Za-z_",
                    's' | 'S' => SPACE,
                    'b' if class => {
                        out.push_str(r"\x08");
                        continue;
                    }
                    'b' | 'B' => {
                        out.push_str(if escaped == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
                        continue;
                    }
                    'c' => {
                        let letter = chars.next().filter(char::is_ascii_alphabetic);
                        let letter = letter.ok_or(r"\c takes a letter")?;
                        out.push_str(&format!(
                            r"\x{:02X}",
                            u32::from(letter.to_ascii_uppercase()) - 64
                        ));
                        continue;
                    }
                    '0' => {
                        out.push_str(r"\x00");
                        continue;
                    }
                    '1'..='9' => return Err("back references need backtracking".to_owned()),
                    'k' => return Err("back references need backtracking".to_owned()),
                    // What the matcher knows and ECMA-262 does not.
                    'A' | 'z' | 'Z' | 'G' | 'Q' | 'E' | 'a' | 'U' | 'h' | 'R' => {
                        return Err(format!(r"\{escaped} is no escape of ECMA-262"));
                    }
                    // To the matcher these would be the edges of words.
                    '<' | '>' => {
                        out.push(escaped);
                        continue;
                    }
                    other => {
                        out.push('\\');
                        out.push(other);
                        continue;
                    }
                };
                let after: Vec<char> = chars.clone().take(2).collect();
                if class && after.first() == Some(&'-') && after.get(1) != Some(&']') {
                    return Err(RANGE.to_owned());
                }
                let negated = escaped.is_ascii_uppercase();
                match (class, negated) {
                    (true, false) => out.push_str(inner),
                    (_, true) => out.push_str(&format!("[^{inner}]")),
                    (false, false) => out.push_str(&format!("[{inner}]")),
                }
            }
            '[' if !class => {
                let negated = chars.next_if_eq(&'^').is_some();
                if chars.next_if_eq(&']').is_some() {
                    // An empty class matches nothing, and its complement anything.
                    out.push_str(if negated { "(?s:.)" } else { r"[^\s\S]" });
                } else {
                    class = true;
                    out.push_str(if negated { "[^" } else { "[" });
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Inside a class the matcher has operators where ECMA-262 has characters.
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '-' if class => {
                let after: Vec<char> = chars.clone().take(2).collect();
                let shorthand =
                    matches!(after.as_slice(), ['\\', 'd' | 'D' | 'w' | 'W' | 's' | 'S']);
                if after.first() == Some(&'-') || (shorthand && !out.ends_with(['[', '^'])) {
                    return Err(RANGE.to_owned());
                }
                out.push('-');
            }
            '(' if !class && chars.peek() == Some(&'?') => {
                let rest: String = chars.clone().skip(1).take(2).collect();
                let known = rest.starts_with(':')
                    || (rest.starts_with('<')
                        && !rest.starts_with("<=")
                        && !rest.starts_with("<!"));
                if !known {
                    return Err("look-around and flags are not of the linear-time kind".to_owned());
                }
                out.push('(');
            }
            // The matcher takes a line feed alone for a line end.
            '.' if !class => out.push_str(r"[^\n\r\u2028\u2029]"),
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_what_ecma_says() {
        let matches = |p: &str, t: &str| Pattern::new(p).unwrap().is_match(t);
        assert!(matches(r"^\d$", "7") && !matches(r"^\d$", "٣"));
        assert!(matches(r"^\w+$", "a_9") && !matches(r"^\w$", "é"));
        assert!(matches(r"^\W$", "é") && matches(r"^[\W]$", "é") && !matches(r"^[^\W]$", "é"));
        assert!(
            matches(r"^\s$", "\u{feff}")
                && matches(r"^\s$", "\u{2029}")
                && !matches(r"^\s$", "\u{85}")
        );
        assert!(matches(r"^[\d-]+$", "1-2") && matches(r"^[[&~]+$", "[&~"));
        assert!(matches(r"^\cC$", "\u{3}") && !matches(r"^a.b$", "a\u{2028}b"));
        assert!(matches(r"a/b\/c", "a/b/c") && matches(r"^\p{L}+$", "née"));
        assert!(!matches("^abc$", "abc\n") && matches("es", "expression"));
        assert!(
            matches(r"^\<b\>$", "<b>") && matches(r"^[\w-]+$", "a-b") && matches(r"^[-\d]+$", "-1")
        );
        assert!(matches(r"^\p{L}[\p{L}\p{N} '-]*$", "Zoë O'Neill-Šimić"));
        assert!(!matches("[]", "x") && matches("^[^]$", "\n"));
    }

    #[test]
    fn what_cannot_run_in_linear_time_is_refused() {
        for pattern in [
            "(?=x)",
            "(?!x)",
            "(?<=x)y",
            "(?<!x)y",
            r"(a)\1",
            r"(?<n>a)\k<n>",
            "(?i)x",
            "((a{1000}){1000}){1000}",
            "(",
            r"\Z",
            "\\",
            r"[\w-z]",
            r"[+-\d]",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::new(&"(".repeat(10_000)).is_err());
        assert!(Pattern::new(&format!("{}{}", "(".repeat(1000), ")".repeat(1000))).is_err());
    }
}
