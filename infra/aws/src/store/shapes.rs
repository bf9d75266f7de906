//! What is unusual in a key. Servers were seen that keep such keys under other names, and say that they kept them.

use unicode_normalization::UnicodeNormalization as _;

/// A set of shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shapes(u32);

/// The shapes, by what servers make of them: a path of a file system, a URL, a text in a form of their own.
const SLASHES_TOGETHER: u32 = 1;
const SLASH_FIRST: u32 = 1 << 1;
const SLASH_LAST: u32 = 1 << 2;
const DOTS_ALONE: u32 = 1 << 3;
const DOT_LAST: u32 = 1 << 4;
const BLANK_AT_AN_END: u32 = 1 << 5;
const BLANK_WITHIN: u32 = 1 << 6;
const BACKSLASH: u32 = 1 << 7;
const CONTROL: u32 = 1 << 8;
const PLUS: u32 = 1 << 9;
const PERCENT: u32 = 1 << 10;
const OF_URLS: u32 = 1 << 11;
const OF_SHELLS: u32 = 1 << 12;
const CAPITALS: u32 = 1 << 13;
const NOT_ASCII: u32 = 1 << 14;
const BEYOND_16_BITS: u32 = 1 << 15;
const COMBINING: u32 = 1 << 16;
const LONG_PART: u32 = 1 << 17;
const LONG: u32 = 1 << 18;
/// Of every key, where the server takes names for one that differ in capitals or normal form alone.
const FOLDED: u32 = 1 << 19;

/// Longest name that a file may have in most file systems, in bytes.
const FILE_NAME_MAX: usize = 255;
/// Keys longer than this are unusual.
const USUAL_MAX: usize = 512;

impl Shapes {
    /// Those of a key.
    pub(super) fn of(key: &str) -> Self {
        let note = |shape: u32, is: bool| if is { shape } else { 0 };
        let mut found = 0;
        found |= note(SLASH_FIRST, key.starts_with('/'));
        found |= note(SLASHES_TOGETHER, key.contains("//"));
        found |= note(SLASH_LAST, key.ends_with('/'));
        found |= note(LONG, key.len() > USUAL_MAX);
        for byte in key.bytes() {
            let shape = match byte {
                b'A'..=b'Z' => CAPITALS,
                0..=31 | 127 => CONTROL,
                b' ' => BLANK_WITHIN,
                b'\\' => BACKSLASH,
                b'+' => PLUS,
                b'%' => PERCENT,
                b'?' | b'#' | b'&' | b'=' | b';' | b':' | b'@' | b',' | b'$' => OF_URLS,
                b'!' | b'"' | b'\'' | b'(' | b')' | b'*' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|'
                | b'}' | b'~' => OF_SHELLS,
                128.. => NOT_ASCII,
                _ => 0,
            };
            found |= shape;
        }
        if found & NOT_ASCII != 0 {
            found |= note(BEYOND_16_BITS, key.chars().any(|c| u32::from(c) > 0xffff));
            found |= note(COMBINING, key.chars().any(combines));
        }
        for part in key.split('/') {
            found |= note(DOTS_ALONE, matches!(part, "." | ".."));
            found |= note(DOT_LAST, part.ends_with('.'));
            found |= note(BLANK_AT_AN_END, part.starts_with(char::is_whitespace) || part.ends_with(char::is_whitespace));
            found |= note(LONG_PART, part.len() > FILE_NAME_MAX);
        }
        Self(found)
    }

    /// Whether there are none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are not among others.
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether all of these are among others.
    pub(super) fn within(self, others: Self) -> bool {
        self.without(others).is_empty()
    }

    /// These, of a server that takes two names for one.
    pub(super) fn folded(self) -> Self {
        Self(self.0 | FOLDED)
    }

    /// These, but for what has to be asked of each key.
    pub(super) fn of_all_keys(self) -> Self {
        Self(self.0 & !FOLDED)
    }

    /// Whether servers may take a key of these for one that differs in capitals or normal form alone.
    pub(super) fn may_fold(self) -> bool {
        self.0 & (CAPITALS | COMBINING) != 0
    }

    /// These and others.
    pub(super) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// Whether a character may be made one with another, or be taken apart: normal forms differ in such.
fn combines(c: char) -> bool {
    matches!(
        u32::from(c),
        // Letters with marks, as one; marks; the parts of Hangul, and their wholes; what only looks like another.
        0xc0..=0x24f | 0x300..=0x36f | 0x1100..=0x11ff | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x1e00..=0x1fff
            | 0x20d0..=0x20ff | 0x2126 | 0x212a..=0x212b | 0x3099..=0x309a | 0xac00..=0xd7a3 | 0xf900..=0xfaff
            | 0xfb00..=0xfb4f | 0xfe20..=0xfe2f
    )
}

/// Keys that a server which folds names takes for this one.
pub(super) fn twins(key: &str) -> Vec<String> {
    let others = [key.to_lowercase(), key.to_uppercase(), key.nfc().collect(), key.nfd().collect()];
    let mut twins: Vec<String> = others.into_iter().filter(|other| other != key).collect();
    twins.dedup();
    twins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_differ_in_capitals_or_normal_form_alone() {
        assert_eq!(twins("Readme"), ["readme", "README"]);
        assert_eq!(twins("caf\u{e9}"), ["CAF\u{c9}", "cafe\u{301}"]);
        assert_eq!(twins("cafe\u{301}"), ["CAFE\u{301}", "caf\u{e9}"]);
        assert_eq!(twins("1/2"), [""; 0]);
    }

    #[test]
    fn only_what_is_unusual_has_a_shape() {
        for usual in ["a", "a/b-c_d.e", "2026/11/28/scan-0001.tif", ".hidden/..x/x..y", &"a/".repeat(200)[..399]] {
            assert!(Shapes::of(usual).is_empty(), "{usual}");
        }
        for (key, shape) in [
            ("a//b", SLASHES_TOGETHER),
            ("/a", SLASH_FIRST),
            ("//a", SLASH_FIRST | SLASHES_TOGETHER),
            ("a/", SLASH_LAST),
            ("/", SLASH_FIRST | SLASH_LAST),
            ("a/./b", DOTS_ALONE | DOT_LAST),
            ("../a", DOTS_ALONE | DOT_LAST),
            ("a./b", DOT_LAST),
            ("a b", BLANK_WITHIN),
            ("a /b", BLANK_WITHIN | BLANK_AT_AN_END),
            ("a\\b", BACKSLASH),
            ("a\nb", CONTROL),
            ("a\u{7f}b", CONTROL),
            ("a+b", PLUS),
            ("a%2f", PERCENT),
            ("a?b", OF_URLS),
            ("a*b", OF_SHELLS),
            ("README", CAPITALS),
            ("日本", NOT_ASCII),
            ("\u{e9}", NOT_ASCII | COMBINING),
            ("e\u{301}", NOT_ASCII | COMBINING),
            ("\u{1F600}", NOT_ASCII | BEYOND_16_BITS),
            (&"x".repeat(256), LONG_PART),
            (&"xy/".repeat(200)[..599], LONG),
        ] {
            assert_eq!(Shapes::of(key), Shapes(shape), "{key}");
        }
    }
}
