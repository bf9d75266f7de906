//! Exports the entries of a log: as the lines that DuraCloud has, as JSON lines, or as events of PREMIS.

use std::io::{self, Write};
use std::str::FromStr;

use anyhow::Result;
use futures::StreamExt as _;
use mill_model::{Algorithm, AuditEvent};
use mill_records::audit_log::entry::LogEntry;

use super::entries::{EntryReader, ShownEntry, WantedEntries};
use super::entry_filter::EntryFilter;
use super::field_escape::tsv;
use super::premis;
use crate::UsageError;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Lines with tabs, in DuraCloud's 14 columns.
    Tsv,
    /// JSON lines.
    Json,
    /// PREMIS 3 in XML.
    Premis,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tsv, Self::Json, Self::Premis];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::Premis => "premis",
        }
    }
}

impl FromStr for ExportFormat {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| UsageError("the formats are tsv, json and premis".into()))
    }
}

/// DuraCloud's columns, in its order.
pub const COLUMNS: [&str; 14] = [
    "account",
    "store-id",
    "space-id",
    "content-id",
    "content-md5",
    "content-size",
    "content-mimetype",
    "content-properties",
    "space-acls",
    "source-space-id",
    "source-content-id",
    "timestamp",
    "action",
    "username",
];

/// Writes the entries that pass the filter, in order. Returns how many they are.
///
/// # Errors
/// An entry cannot be read, so that the export would not be whole; `out` cannot be written.
pub async fn export(
    reader: &EntryReader<'_>,
    filter: &EntryFilter,
    format: ExportFormat,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    match format {
        ExportFormat::Tsv => line(out, &COLUMNS.join("\t"))?,
        ExportFormat::Json => {}
        ExportFormat::Premis => premis::begin(out, &reader.state().origin)?,
    }
    let mut entries = reader.entries(WantedEntries::From(0), filter);
    let mut count = 0;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        match format {
            ExportFormat::Tsv => line(out, &tsv_line(entry.read()?, entry.user.as_deref()))?,
            ExportFormat::Json => line(out, &entry.to_json()?)?,
            ExportFormat::Premis => premis::event(out, &reader.state().origin, &entry)?,
        }
        count += 1;
    }
    if format == ExportFormat::Premis {
        premis::end(out)?;
    }
    out.flush()?;
    Ok(count)
}

fn line(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// The line of an entry. What is not known is an empty field.
fn tsv_line(LogEntry { account, event, .. }: &LogEntry, user: Option<&str>) -> String {
    let text = |of: Option<&str>| of.unwrap_or_default().to_owned();
    let source = event.copied_from.as_ref();
    let fields: [String; 14] = [
        account.as_str().to_owned(),
        event.store.as_str().to_owned(),
        event.space.as_str().to_owned(),
        text(event.item.as_ref().map(mill_model::ContentId::as_str)),
        md5(event),
        event.size.map(|size| size.to_string()).unwrap_or_default(),
        text(content_type(event)),
        event.properties.as_ref().map(|all| serde_json::json!(all).to_string()).unwrap_or_default(),
        text(event.space_acls.as_deref()),
        text(source.map(|source| source.space.as_str())),
        text(source.map(|source| source.item.as_str())),
        event.happened_at().to_string(),
        event.action.duracloud_name().to_owned(),
        text(user),
    ];
    fields.iter().map(|field| tsv(field)).collect::<Vec<_>>().join("\t")
}

fn md5(event: &AuditEvent) -> String {
    let md5 = event.checksums.iter().find(|checksum| checksum.algorithm == Algorithm::Md5);
    md5.map(mill_model::Checksum::hex).unwrap_or_default()
}

fn content_type(event: &AuditEvent) -> Option<&str> {
    let of_properties = || Some(event.properties.as_ref()?.get("content-type")?.as_str());
    event.content_type.as_deref().or_else(of_properties)
}

impl ShownEntry {
    /// The name of who did it, or `-`.
    pub fn shown_user(&self) -> &str {
        self.user.as_deref().unwrap_or("-")
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AuditAction, CopiedFrom, EventId, EventSource, Timestamp};

    use super::super::field_escape::read_tsv;
    use super::*;

    #[test]
    fn a_line_has_what_duracloud_has_and_is_read_back() {
        let at = Timestamp::from_millis(0);
        let item = Some("tab\tline\n\u{1F600}\\".parse().unwrap());
        let subject = ("1".parse().unwrap(), "photos".parse().unwrap(), item);
        let mut event =
            AuditEvent::new(EventId::of_facts(at, &[]), subject, AuditAction::CopyContent, at, EventSource::Mill);
        event.checksums = vec!["md5:25f9e794323b453885f5181f1b624d0b".parse().unwrap()];
        event.size = Some(9);
        event.properties = Some([("content-type".to_owned(), "a\tb".to_owned())].into());
        let (space, item) = ("old".parse().unwrap(), "x\ty".parse().unwrap());
        event.copied_from = Some(CopiedFrom { store: None, space, item });
        let entry = LogEntry { v: 1, account: "library".parse().unwrap(), event, user: None };
        let written = tsv_line(&entry, Some("Zoë\t"));
        let fields: Vec<String> = written.split('\t').map(|field| read_tsv(field).unwrap()).collect();
        assert_eq!(
            fields,
            [
                "library",
                "1",
                "photos",
                "tab\tline\n\u{1F600}\\",
                "25f9e794323b453885f5181f1b624d0b",
                "9",
                "a\tb",
                "{\"content-type\":\"a\\tb\"}",
                "",
                "old",
                "x\ty",
                "1970-01-01T00:00:00.000Z",
                "COPY_CONTENT",
                "Zoë\t"
            ]
        );
    }
}
