//! When the properties of a copy are those of its source: the one place that says so.

use mill_model::Properties;

/// Names that repeat what the facts of an item say, or when a store answered: each store has its own values for them.
///
/// Found at DuraCloud, in capital or small letters. `content-type` is not among them: it is the item's type.
const VOLATILE: [&str; 8] = [
    "content-checksum",
    "content-length",
    "content-md5",
    "content-modified",
    "content-size",
    "date",
    "etag",
    "last-modified",
];

/// The first property, by name, in which a copy is not as its source; `None` when its properties are the source's.
///
/// [Volatile](VOLATILE) names are left out. A folder gives each of its files a time and a mode; where the source has none,
/// the copy may have any. Properties that are not known are never the same.
pub(crate) fn difference(source: Option<&Properties>, copy: Option<&Properties>) -> Option<String> {
    let (Some(source), Some(copy)) = (source, copy) else { return Some("(not known)".to_owned()) };
    let counts = |name: &str| !VOLATILE.iter().any(|volatile| volatile.eq_ignore_ascii_case(name));
    let file_only = |name: &str| [Properties::FILE_MTIME, Properties::FILE_MODE].contains(&name);
    let wanted = source.0.keys();
    let found = copy.0.keys().filter(|name| !(file_only(name) && source.get(name).is_none()));
    let names = wanted.chain(found).filter(|name| counts(name));
    names.filter(|name| source.get(name) != copy.get(name)).min().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn same(source: &[(&str, &str)], copy: &[(&str, &str)]) -> bool {
        difference(Some(&properties(source)), Some(&properties(copy))).is_none()
    }

    #[test]
    fn properties_are_compared_with_removals_and_without_volatile_names() {
        let wanted = [("ETag", "1"), ("content-type", "text/plain"), ("note", "a")];
        assert!(same(&wanted, &[("content-type", "text/plain"), ("note", "a")]));
        assert!(same(
            &wanted,
            &[("content-type", "text/plain"), ("note", "a"), ("Content-MD5", "x"), ("DATE", "today")]
        ));
        assert!(!same(&wanted, &[("content-type", "text/plain")]));
        assert!(!same(&wanted, &[("content-type", "text/html"), ("note", "a")]));
        assert!(!same(&wanted, &[("content-type", "text/plain"), ("note", "a"), ("removed at the source", "b")]));
        assert!(!same(&wanted, &[("content-type", "text/plain"), ("Note", "a")]));
    }

    #[test]
    fn a_files_own_time_and_mode_count_where_the_source_has_them() {
        let folder = [("file-mode", "0644"), ("file-mtime", "1.5")];
        assert!(same(&[], &folder));
        assert!(!same(&[("file-mode", "0600")], &folder));
        assert!(!same(&folder, &[("file-mode", "0644")]));
    }

    #[test]
    fn properties_that_are_not_known_are_never_the_same() {
        let none = Properties::default();
        assert_eq!(difference(Some(&none), Some(&none)), None);
        for (source, copy) in [(None, None), (Some(&none), None), (None, Some(&none))] {
            assert!(difference(source, copy).is_some(), "{source:?} {copy:?}");
        }
    }

    #[test]
    fn the_first_that_differs_is_named() {
        let (one, other) = (properties(&[("a", "1"), ("b", "1")]), properties(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(difference(Some(&one), Some(&other)).as_deref(), Some("b"));
    }
}
