//! Fields of exported lines, which can be read back exactly.
//!
//! In TSV: a tab is `\t`, a newline `\n`, a carriage return `\r` and a backslash `\\`; all else stands as it is. In XML: a control
//! character, U+FFFE, U+FFFF and a backslash is `\u{…}` with its hexadecimal number; then XML's own escapes. In lines of BagIt
//! manifests (RFC 8493): `%0A`, `%0D` and `%25` for newline, carriage return and `%`.

use std::borrow::Cow;

/// A field of a TSV file.
pub fn tsv(field: &str) -> Cow<'_, str> {
    if !field.contains(['\t', '\n', '\r', '\\']) {
        return field.into();
    }
    let mut out = String::with_capacity(field.len() + 8);
    for character in field.chars() {
        match character {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.into()
}

/// The field that was escaped by [`tsv`]; `None` for what was not.
pub fn read_tsv(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next()? {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            '\t' | '\n' | '\r' => return None,
            other => other,
        });
    }
    Some(out)
}

/// A text for XML, before XML's own escapes.
pub fn xml(text: &str) -> Cow<'_, str> {
    let is_special = |c: char| c.is_control() || matches!(c, '\\' | '\u{FFFE}' | '\u{FFFF}');
    if !text.contains(is_special) {
        return text.into();
    }
    let escape = |c: char| if is_special(c) { format!("\\u{{{:x}}}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escape).collect::<String>().into()
}

/// A path of a BagIt manifest.
pub fn bagit(path: &str) -> Cow<'_, str> {
    if !path.contains(['\n', '\r', '%']) {
        return path.into();
    }
    path.replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARD: [&str; 6] = ["", "plain", "tab\tline\nreturn\r\\back\\t", "\\", "\u{1F600}\u{FFFF}\0", "a\\\tb"];

    #[test]
    fn each_field_of_a_line_is_read_back_exactly() {
        for field in HARD {
            let escaped = tsv(field);
            assert!(!escaped.contains(['\t', '\n', '\r']), "{escaped}");
            assert_eq!(read_tsv(&escaped).as_deref(), Some(field));
        }
        assert_eq!(tsv("a\tb\\"), "a\\tb\\\\");
        for wrong in ["\\", "\\x", "a\tb"] {
            assert_eq!(read_tsv(wrong), None);
        }
    }

    #[test]
    fn what_xml_cannot_hold_has_an_escape_of_its_own() {
        assert_eq!(xml("a\0b\\c\n\u{FFFF}<"), "a\\u{0}b\\u{5c}c\\u{a}\\u{ffff}<");
        assert_eq!(xml("\u{1F600}"), "\u{1F600}");
    }

    #[test]
    fn paths_of_manifests_are_escaped_as_rfc_8493_says() {
        assert_eq!(bagit("a%b\nc\rd\te"), "a%25b%0Ac%0Dd\te");
    }
}
