//! Words, numbers and texts of JSON.

use super::{JsonValue, Parser};

impl Parser<'_> {
    /// A run of the characters of words and numbers.
    pub(super) fn bare_word(&mut self) -> &str {
        let start = self.at;
        while matches!(self.peek(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'+' | b'.')) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn word(&mut self) -> JsonValue {
        let at = self.at;
        match self.bare_word() {
            "true" => JsonValue::Bool(true),
            "false" => JsonValue::Bool(false),
            "null" => JsonValue::Null,
            _ => {
                self.fault(at, "a text stands in double quotes (\"); without them only true, false and null may stand");
                JsonValue::Unreadable
            }
        }
    }

    pub(super) fn number(&mut self) -> JsonValue {
        let at = self.at;
        let text = self.bare_word();
        if is_number(text.as_bytes()) {
            JsonValue::Number(text.to_owned())
        } else {
            self.fault(at, "this is neither a JSON number nor a text in double quotes (\")");
            JsonValue::Unreadable
        }
    }

    pub(super) fn string(&mut self) -> String {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b >= 0x20 && b != b'"' && b != b'\\') {
                self.at += 1;
            }
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return out;
                }
                Some(b'\\') => self.escape(&mut out),
                Some(b'\n' | b'\r') | None => {
                    self.stop(open, "this text is never closed with a double quote (\") on its line");
                    return out;
                }
                Some(_) => {
                    self.fault(self.at, "a control character stands in a text; write it as an escape such as \\t");
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) {
        let at = self.at;
        self.at += 1;
        let Some(kind) = self.peek() else { return };
        let c = match kind {
            b'"' | b'\\' | b'/' => Some(char::from(kind)),
            b'b' => Some('\u{8}'),
            b'f' => Some('\u{c}'),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'u' => {
                self.at += 1;
                match self.unicode() {
                    Some(c) => out.push(c),
                    None => self.fault(at, "\\u needs four hexadecimal digits, and two such escapes above U+FFFF"),
                }
                return;
            }
            _ => None,
        };
        match c {
            Some(c) => {
                self.at += 1;
                out.push(c);
            }
            None => self.fault(at, "JSON has no such escape; write a backslash itself as \\\\"),
        }
    }

    /// The character of a `\u` escape, or of two that make a surrogate pair.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        if !(self.eat(b'\\') && self.eat(b'u')) {
            return None;
        }
        let low = self.hex4().filter(|low| (0xdc00..0xe000).contains(low))?;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value * 16 + char::from(self.peek()?).to_digit(16)?;
            self.at += 1;
        }
        Some(value)
    }
}

/// Whether `text` is a number by the grammar of RFC 8259, section 6.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
        (count, &text[count..])
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, mut rest) = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (count, after) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let (count, after) = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}
