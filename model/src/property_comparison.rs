//! When the properties of two copies are equal. Copying, verifying and restoring use this one definition.

use crate::content::Properties;
use crate::encoded_words::decoded;

/// How the properties of a copy differ from those of its original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyDifference {
    /// The properties of one of them are unknown, so they are not known to be equal.
    Unknown,
    /// The first property, by name, that differs.
    Property(String),
}

impl Properties {
    /// How the properties of a copy differ from those of its original; `None` if they are equal. A property that only
    /// one of them has is a difference. Each name counts, also that of a header that services compute: stores give such
    /// headers as facts, so a property called `date` or `etag` is what a person wrote.
    ///
    /// A folder gives each file a time and a mode. If the original has none, the copy may have any.
    pub fn difference(original: Option<&Self>, copy: Option<&Self>) -> Option<PropertyDifference> {
        let (Some(original), Some(copy)) = (original, copy) else { return Some(PropertyDifference::Unknown) };
        let file_only = |name: &str| [Self::FILE_MTIME, Self::FILE_MODE].contains(&name);
        let found = copy.0.keys().filter(|name| !(file_only(name) && original.get(name).is_none()));
        let differing =
            original.0.keys().chain(found).filter(|name| !is_same_value(original.get(name), copy.get(name)));
        differing.min().map(|name| PropertyDifference::Property(name.clone()))
    }
}

/// Whether two values say the same: services return one text as encoded words of different forms, or as it is.
fn is_same_value(original: Option<&str>, copy: Option<&str>) -> bool {
    match (original, copy) {
        (Some(original), Some(copy)) => original == copy || decoded(original) == decoded(copy),
        (original, copy) => original == copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn differing(original: &Properties, copy: &Properties) -> Option<PropertyDifference> {
        Properties::difference(Some(original), Some(copy))
    }

    fn property(name: &str) -> PropertyDifference {
        PropertyDifference::Property(name.to_owned())
    }

    #[test]
    fn properties_are_compared_with_removals() {
        let wanted = properties(&[("content-type", "text/plain"), ("note", "a")]);
        let found = |found: &[(&str, &str)]| differing(&wanted, &properties(found));
        assert_eq!(found(&[("content-type", "text/plain"), ("note", "a")]), None);
        assert_eq!(found(&[("content-type", "text/plain")]), Some(property("note")));
        assert_eq!(found(&[("content-type", "text/html"), ("note", "a")]), Some(property("content-type")));
        let more = [("content-type", "text/plain"), ("note", "a"), ("removed at the source", "b")];
        assert_eq!(found(&more), Some(property("removed at the source")));
        assert_eq!(found(&[("content-type", "text/plain"), ("Note", "a")]), Some(property("Note")));
    }

    #[test]
    fn a_property_that_is_named_as_a_computed_header_counts() {
        for name in ["date", "etag", "content-md5", "content-length", "last-modified", "content-size"] {
            let (one, other) = (properties(&[(name, "1")]), properties(&[(name, "2")]));
            assert_eq!(differing(&one, &other), Some(property(name)));
            assert_eq!(differing(&one, &properties(&[])), Some(property(name)));
        }
    }

    #[test]
    fn one_text_in_two_forms_is_one_value() {
        let original = properties(&[("note", "Miniö"), ("title", "=?UTF-8?B?w6k=?=")]);
        let copy = properties(&[("note", "=?UTF-8?Q?Mini=C3=B6?="), ("title", "=?UTF-8?Q?=C3=A9?=")]);
        assert_eq!(differing(&original, &copy), None);
        assert_eq!(differing(&original, &properties(&[("note", "Mini")])), Some(property("note")));
    }

    #[test]
    fn a_files_own_time_and_mode_count_where_the_source_has_them() {
        let folder = properties(&[("file-mode", "0644"), ("file-mtime", "1.5")]);
        assert_eq!(differing(&properties(&[]), &folder), None);
        assert_eq!(differing(&properties(&[("file-mode", "0600")]), &folder), Some(property("file-mode")));
        assert_eq!(differing(&folder, &properties(&[("file-mode", "0644")])), Some(property("file-mtime")));
    }

    #[test]
    fn properties_that_are_not_known_are_never_equal() {
        let none = Properties::default();
        assert_eq!(differing(&none, &none), None);
        for (original, copy) in [(None, None), (Some(&none), None), (None, Some(&none))] {
            assert_eq!(Properties::difference(original, copy), Some(PropertyDifference::Unknown));
        }
    }
}
