//! Bodies as SQS messages: plain text where the service allows its characters, else base64 with an attribute that says so.

use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use aws_smithy_types::base64;
use bytes::Bytes;

/// The attribute of a message whose body is encoded.
pub(super) const ENCODING: &str = "mill-encoding";
const BASE64: &str = "base64";

/// A body as SQS message text.
pub(super) struct EncodedBody {
    pub(super) text: String,
    pub(super) encoding: Option<MessageAttributeValue>,
}

impl EncodedBody {
    pub(super) fn encode(body: &Bytes) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) if !text.is_empty() && text.chars().all(is_allowed) => {
                Self { text: text.to_owned(), encoding: None }
            }
            _ => {
                let attribute = MessageAttributeValue::builder().data_type("String").string_value(BASE64).build();
                // `==` stands for no bytes, since no message may be empty.
                let text = if body.is_empty() { "==".to_owned() } else { base64::encode(body) };
                Self { text, encoding: attribute.ok() }
            }
        }
    }

    /// The bytes that the service counts.
    pub(super) fn byte_count(&self) -> usize {
        let attribute = if self.encoding.is_some() { ENCODING.len() + BASE64.len() + "String".len() } else { 0 };
        self.text.len() + attribute
    }
}

/// Whether a character may stand in a message. Source: Amazon SQS API reference, *SendMessage*.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The body of a message. Text that is marked as base64 and is none is returned as it is: decoding the envelope reports it.
pub(super) fn decode(message: &Message) -> Bytes {
    let text = message.body().unwrap_or_default();
    let encoding = message.message_attributes().and_then(|attributes| attributes.get(ENCODING));
    if encoding.and_then(|attribute| attribute.string_value()) == Some(BASE64) {
        if text == "==" {
            return Bytes::new();
        }
        if let Ok(bytes) = base64::decode(text) {
            return bytes.into();
        }
    }
    Bytes::copy_from_slice(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(body: &'static [u8]) -> (bool, Bytes) {
        let encoded_body = EncodedBody::encode(&Bytes::from_static(body));
        let encoded = encoded_body.encoding.is_some();
        let message = Message::builder().body(encoded_body.text);
        let message = match encoded_body.encoding {
            Some(attribute) => message.message_attributes(ENCODING, attribute),
            None => message,
        };
        (encoded, decode(&message.build()))
    }

    #[test]
    fn every_body_comes_back_as_it_was() {
        for (body, encoded) in [
            (&b"{\"k\":\"a\\u0001\"}"[..], false),
            ("é 日本 \u{1F600}\t\r\n".as_bytes(), false),
            (b"==", false),
            (b"", true),
            (b"a\0b", true),
            (b"\xff\xfe", true),
            ("\u{ffff}".as_bytes(), true),
        ] {
            assert_eq!(there_and_back(body), (encoded, Bytes::from_static(body)), "{body:?}");
        }
    }
}
