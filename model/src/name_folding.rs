//! Names that some store may treat as one.

use unicode_normalization::UnicodeNormalization as _;

/// Folds a name so that two names are equal if some file system treats them as one: names that differ in case, in
/// Unicode normal form, or in dots and spaces at their end. No single file system treats as many names as equal as this
/// form does.
pub fn fold_name(name: &str) -> String {
    let part =
        |part: &str| -> String { part.trim_end_matches(['.', ' ']).nfd().flat_map(char::to_lowercase).nfd().collect() };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_file_system_takes_for_one_are_equal() {
        for (one, other) in [
            ("README", "readme"),
            ("\u{e9}", "e\u{301}"),
            ("\u{c9}x", "e\u{301}X"),
            ("a.", "a"),
            ("Ж", "ж"),
            ("Photos/a. ", "photos/A"),
        ] {
            assert_eq!(fold_name(one), fold_name(other));
        }
        for (one, other) in [("a", "b"), (".a", "a"), ("a/b", "ab"), ("a/", "a")] {
            assert_ne!(fold_name(one), fold_name(other));
        }
    }
}
