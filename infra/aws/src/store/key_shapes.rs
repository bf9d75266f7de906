//! Unusual features of a key. Some servers store such keys under other names and report success.

use unicode_normalization::{UnicodeNormalization as _, is_nfc, is_nfd};

/// A set of shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shapes(u32);

/// The shapes, by what servers turn a key into: a file system path, a URL, normalised text.
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
const NOT_COMPOSED: u32 = 1 << 16;
const NOT_TAKEN_APART: u32 = 1 << 17;
const LONG_PART: u32 = 1 << 18;
const LONG: u32 = 1 << 19;
/// Added to every key, where the server treats names as one that differ only in case or normal form.
const FOLDED: u32 = 1 << 20;

/// Shapes that change a path. A server that turns keys into paths may normalise the prefix of a listing too, and list what
/// it finds with that prefix.
const OF_PATHS: u32 =
    SLASHES_TOGETHER | SLASH_FIRST | SLASH_LAST | DOTS_ALONE | DOT_LAST | BLANK_AT_AN_END | BACKSLASH | CONTROL;

/// Longest file name in most file systems, in bytes.
const FILE_NAME_MAX: usize = 255;
/// Keys longer than this are unusual.
const USUAL_MAX: usize = 512;

impl Shapes {
    /// The shapes of a key.
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
            found |= note(NOT_COMPOSED, !is_nfc(key));
            found |= note(NOT_TAKEN_APART, !is_nfd(key));
        }
        for part in key.split('/') {
            found |= note(DOTS_ALONE, matches!(part, "." | ".."));
            found |= note(DOT_LAST, part.ends_with('.'));
            found |=
                note(BLANK_AT_AN_END, part.starts_with(char::is_whitespace) || part.ends_with(char::is_whitespace));
            found |= note(LONG_PART, part.len() > FILE_NAME_MAX);
        }
        Self(found)
    }

    /// Whether the set is empty.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shapes that are not in `others`.
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether all shapes are in `others`.
    pub(super) fn within(self, others: Self) -> bool {
        self.without(others).is_empty()
    }

    /// The shapes on a server that folds names.
    pub(super) fn folded(self) -> Self {
        Self(self.0 | FOLDED)
    }

    /// The shapes that one proof settles for all keys.
    pub(super) fn of_all_keys(self) -> Self {
        Self(self.0 & !FOLDED)
    }

    /// Whether a server may treat a key with these shapes as another that differs only in case or normal form.
    pub(super) fn may_fold(self) -> bool {
        self.0 & (CAPITALS | NOT_COMPOSED | NOT_TAKEN_APART) != 0
    }

    /// Whether any of the shapes changes a path.
    pub(super) fn is_odd_path(self) -> bool {
        self.0 & OF_PATHS != 0
    }

    /// The union with `others`.
    pub(super) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// The longest beginning of an id that no server normalises; the whole id if it is usual.
pub(super) fn plain_beginning(id: &str) -> &str {
    let ends = id.char_indices().map(|(at, _)| at).chain([id.len()]).rev();
    let beginnings = ends.map(|end| &id[..end]);
    beginnings.into_iter().find(|beginning| !Shapes::of(beginning).is_odd_path()).unwrap_or_default()
}

/// Keys that a server which folds names treats as this one.
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
    fn what_no_server_makes_another_path_of_ends_before_what_is_odd() {
        for (id, beginning) in [
            ("dbl/slash", "dbl/slash"),
            ("dbl//slash", "dbl"),
            ("/first", ""),
            ("last/", "last"),
            ("a/./b", "a"),
            ("a/b\\c", "a/b"),
            ("a/ b", "a"),
            ("trailing. .", "trailing"),
            ("a.b c/d", "a.b c/d"),
            ("\u{e9}\u{1}", "\u{e9}"),
            ("", ""),
        ] {
            assert_eq!(plain_beginning(id), beginning, "{id:?}");
        }
    }

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
            ("\u{e9}", NOT_ASCII | NOT_TAKEN_APART),
            ("e\u{301}", NOT_ASCII | NOT_COMPOSED),
            ("\u{1F600}", NOT_ASCII | BEYOND_16_BITS),
            (&"x".repeat(256), LONG_PART),
            (&"xy/".repeat(200)[..599], LONG),
        ] {
            assert_eq!(Shapes::of(key), Shapes(shape), "{key}");
        }
    }
}
