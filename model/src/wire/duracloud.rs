//! DuraCloud Mill's messages: Java properties text, so that an installation can move over queue by queue.

use std::collections::BTreeMap;

use super::duracloud_audit::read_audit_task;
use super::{ReceiveContext, WireError};
use crate::envelope::Envelope;
use crate::ids::{AccountId, ContentId, SpaceId, StoreId};
use crate::space_pair::SpacePair;
use crate::task::{DuplicateTask, TaskArgs as _};

/// Reads a message of type `DUP` or `AUDIT`. `attempts` becomes the count of failures.
pub(super) fn decode(body: &[u8], arrival: ReceiveContext) -> Result<Envelope, WireError> {
    let text = std::str::from_utf8(body).map_err(|error| WireError::Malformed(error.to_string()))?;
    let found = properties(text);
    let kind = found.get("type").ok_or_else(|| WireError::Malformed("it has no `type`".into()))?;
    let task = match kind.as_str() {
        "DUP" => duplicate(&found)?.to_task()?,
        "AUDIT" => read_audit_task(&found)?.to_task()?,
        _ => return Err(WireError::DuraCloudType(crate::ids::shorten_for_display(kind))),
    };
    let mut envelope = Envelope::new(arrival.id, arrival.queue, arrival.sent_at, task);
    envelope.failures = found.get("attempts").and_then(|attempts| attempts.parse().ok()).unwrap_or(0);
    Ok(envelope)
}

fn duplicate(found: &BTreeMap<String, String>) -> Result<DuplicateTask, WireError> {
    let member =
        |name: &str| found.get(name).cloned().ok_or_else(|| WireError::Malformed(format!("it has no `{name}`")));
    let item = found.get("contentId").filter(|id| !id.is_empty()).map(ContentId::new).transpose()?;
    let pair = SpacePair {
        account: AccountId::new(member("account")?)?,
        source: StoreId::new(member("storeId")?)?,
        destination: StoreId::new(member("destStoreId")?)?,
        space: SpaceId::new(member("spaceId")?)?,
    };
    Ok(DuplicateTask::of(pair, item))
}

/// Reads the text form of `java.util.Properties`. Source: its `load(Reader)` documentation.
pub(super) fn properties(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // The two characters are one line end: an escaped line end covers both.
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']);
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '\t', '\u{c}']);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while logical.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            logical.pop();
            let Some(next) = lines.next() else { break };
            logical.push_str(next.trim_start_matches([' ', '\t', '\u{c}']));
        }
        let (key, value) = split(&logical);
        found.insert(unescape(key), unescape(value));
    }
    found
}

/// Splits at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' | ' ' | '\t' | '\u{c}' => {
                let rest = line[at..].trim_start_matches([' ', '\t', '\u{c}']);
                let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
                return (&line[..at], rest.trim_start_matches([' ', '\t', '\u{c}']));
            }
            _ => {}
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD));
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    String::from_utf16_lossy(&units)
}
