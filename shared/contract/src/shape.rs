//! Patterns of a fixed shape, such as `^[A-Z]{3}$`: one class of bytes for each byte of a text.
//!
//! Most codes have one, and none of them needs a matcher. Whatever is not plainly of this kind has no shape.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Bytes of the longest shape.
const LONGEST: usize = 64;

/// For each byte of a text, the bytes that it may be.
#[derive(Clone, Debug)]
pub(crate) struct Shape(Vec<[bool; 256]>);

impl Shape {
    /// The shape of a pattern in the matcher's syntax, if it has one.
    pub(crate) fn of(pattern: &str) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let HirKind::Concat(parts) = hir.kind() else { return None };
        let [first, middle @ .., last] = parts.as_slice() else { return None };
        let look = |hir: &Hir, wanted| matches!(hir.kind(), HirKind::Look(look) if *look == wanted);
        if !look(first, Look::Start) || !look(last, Look::End) {
            return None;
        }
        let mut classes = Vec::new();
        middle.iter().try_for_each(|part| append(part, &mut classes))?;
        Some(Self(classes))
    }

    /// Whether a text is of it.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.len() == self.0.len()
            && self.0.iter().zip(bytes).all(|(class, byte)| class[usize::from(*byte)])
    }
}

/// Appends the classes of a part that always takes the same number of bytes.
fn append(part: &Hir, classes: &mut Vec<[bool; 256]>) -> Option<()> {
    match part.kind() {
        HirKind::Literal(literal) => {
            for byte in &literal.0 {
                let mut class = [false; 256];
                class[usize::from(*byte)] = true;
                classes.push(class);
            }
        }
        HirKind::Class(Class::Unicode(ranges)) => {
            let mut class = [false; 256];
            for range in ranges.ranges() {
                // Beyond ASCII a character takes several bytes.
                if !range.end().is_ascii() {
                    return None;
                }
                for c in range.start()..=range.end() {
                    class[usize::try_from(u32::from(c)).ok()?] = true;
                }
            }
            classes.push(class);
        }
        HirKind::Repetition(repetition) if repetition.max == Some(repetition.min) => {
            for _ in 0..repetition.min {
                append(&repetition.sub, classes)?;
            }
        }
        HirKind::Capture(capture) => append(&capture.sub, classes)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| append(part, classes))?,
        _ => return None,
    }
    (classes.len() <= LONGEST).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_plainly_of_one_length_has_a_shape() {
        for pattern in ["^[A-Z]{3}$", "^[0-9A-Z]{2}$", "^AB-[0-9]{4}$", "^(a[bc]){2}$", "^é[0-9]$"]
        {
            assert!(Shape::of(pattern).is_some(), "{pattern}");
        }
        for pattern in [
            "[A-Z]{3}", "^[A-Z]+$", "^a|b$", "^[a-é]$", "^a{2,3}$", "^[^a]$", "^$|a", "^a{65}$",
            "(", "^",
        ] {
            assert!(Shape::of(pattern).is_none(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_shape_matches_what_its_pattern_does(text in "[A-C0-2é-]{0,8}") {
            for pattern in ["^[A-Z]{3}$", "^[A-B]{2}-[0-9]{2}$", "^é[0-9]$", "^(A[BC]){2}$"] {
                let regex = regex::Regex::new(pattern).unwrap();
                prop_assert_eq!(Shape::of(pattern).unwrap().is_match(&text), regex.is_match(&text));
            }
        }
    }
}
