//! Encoded words of RFC 2047: the form in which services of S3 return metadata with letters beyond ASCII.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The text that a value means, its encoded words decoded; the value itself where it has none, or one that cannot be read.
pub fn decoded(value: &str) -> Cow<'_, str> {
    if value.contains("=?") { text_of(value).map_or(Cow::Borrowed(value), Cow::Owned) } else { Cow::Borrowed(value) }
}

fn text_of(value: &str) -> Option<String> {
    let mut text = String::new();
    let mut after_word = None;
    for token in value.split(' ') {
        let word = if token.starts_with("=?") { Some(text_of_word(token)?) } else { None };
        // The blank between two words is part of neither.
        if after_word.is_some_and(|after_word| !(after_word && word.is_some())) {
            text.push(' ');
        }
        after_word = Some(word.is_some());
        text.push_str(word.as_deref().unwrap_or(token));
    }
    Some(text)
}

/// `=?charset?B?base64?=` or `=?charset?Q?quoted?=`.
fn text_of_word(token: &str) -> Option<String> {
    let mut parts = token.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?');
    let (charset, form, written) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = match form {
        "B" | "b" => STANDARD.decode(written).ok()?,
        "Q" | "q" => unquoted(written)?,
        _ => return None,
    };
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" | "us-ascii" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
        _ => None,
    }
}

fn unquoted(written: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => u8::try_from(hex_digit(rest.next()?)? * 16 + hex_digit(rest.next()?)?).ok()?,
            byte => byte,
        });
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn words_in_either_form_and_any_case_mean_one_text() {
        for word in [
            "=?UTF-8?B?TWluacO2?=",
            "=?UTF-8?Q?Mini=C3=B6?=",
            "=?utf-8?q?Mini=c3=b6?=",
            "=?ISO-8859-1?Q?Mini=F6?=",
            "=?UTF-8?Q?Mi?= =?UTF-8?B?bmnDtg==?=",
            "Miniö",
        ] {
            assert_eq!(decoded(word), "Miniö", "{word}");
        }
        assert_eq!(decoded("a =?UTF-8?Q?b_=C3=B6?=  c"), "a b ö  c");
    }

    #[test]
    fn what_is_no_word_stays_as_it_is() {
        for value in
            ["", "a  b", "=?", "=?x?=", "=?UTF-8?B?!?=", "=?UTF-8?Q?=C3?=", "=?koi8-r?B?YQ==?=", "=?UTF-8?Q?a=?="]
        {
            assert_eq!(decoded(value), value);
        }
    }
}
