//! Entries as events of PREMIS 3, in XML.
//!
//! Names may have characters that XML cannot hold. So each text is written by [`field_escape::xml`] first: it is read back by
//! replacing each `\u{…}`. `eventDetail` has the whole entry as JSON, in which these characters have JSON's own escapes.
//!
//! Source: PREMIS data dictionary 3.0, and premis-v3-0.xsd.

use std::io::Write;

use anyhow::Result;
use mill_model::{AuditAction, EventCertainty};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::entries::ShownEntry;
use super::field_escape;

/// Begins the document. Its schema wants an object before all events: it is the log as a whole.
pub(super) fn begin(out: &mut dyn Write, origin: &str) -> Result<()> {
    let mut xml = Writer::new(out);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut root = BytesStart::new("premis:premis");
    root.push_attribute(("xmlns:premis", "http://www.loc.gov/premis/v3"));
    root.push_attribute(("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"));
    root.push_attribute(("version", "3.0"));
    xml.write_event(Event::Start(root))?;
    let mut object = BytesStart::new("premis:object");
    object.push_attribute(("xsi:type", "premis:intellectualEntity"));
    xml.write_event(Event::Start(object))?;
    let mut elements = Elements(xml);
    elements.identifier("objectIdentifier", "audit log", origin)?;
    let mut xml = elements.0;
    xml.write_event(Event::End(BytesEnd::new("premis:object")))?;
    Ok(xml.get_mut().write_all(b"\n")?)
}

/// Ends it.
pub(super) fn end(out: &mut dyn Write) -> Result<()> {
    let mut xml = Writer::new(out);
    xml.write_event(Event::End(BytesEnd::new("premis:premis")))?;
    Ok(xml.get_mut().write_all(b"\n")?)
}

/// Writes the event of an entry, on one line.
pub(super) fn event(out: &mut dyn Write, origin: &str, entry: &ShownEntry) -> Result<()> {
    let read = entry.read()?;
    let event = &read.event;
    let mut xml = Elements(Writer::new(out));
    xml.within("event", |xml| {
        xml.identifier("eventIdentifier", "UUID", &event.id.to_string())?;
        xml.text("eventType", event_type(event.action))?;
        xml.text("eventDateTime", &event.happened_at().to_string())?;
        xml.within("eventDetailInformation", |xml| xml.json("eventDetail", &entry.to_json()?))?;
        xml.within("eventOutcomeInformation", |xml| {
            xml.text("eventOutcome", outcome(event.certainty))?;
            xml.within("eventOutcomeDetail", |xml| {
                xml.text("eventOutcomeDetailNote", &format!("entry {} of the audit log {origin}", entry.index))
            })
        })?;
        if let Some(user) = &entry.user {
            xml.identifier("linkingAgentIdentifier", "user name", user)?;
        }
        let mut subject = vec![read.account.as_str(), event.store.as_str(), event.space.as_str()];
        subject.extend(event.item.as_ref().map(mill_model::ContentId::as_str));
        let subject = subject.join("/");
        xml.identifier("linkingObjectIdentifier", "account/store/space/item", &subject)
    })?;
    Ok(xml.0.get_mut().write_all(b"\n")?)
}

/// The type, in words of the Library of Congress' list of preservation events.
fn event_type(action: AuditAction) -> &'static str {
    match action {
        AuditAction::AddContent => "ingestion",
        AuditAction::CopyContent => "replication",
        AuditAction::UpdateContentProperties | AuditAction::UpdateSpaceProperties => "metadata modification",
        AuditAction::DeleteContent | AuditAction::DeleteSpace => "deletion",
        AuditAction::CreateSpace => "creation",
    }
}

/// The outcome, in words of the Library of Congress' list of event outcomes, where it has one.
fn outcome(certainty: EventCertainty) -> &'static str {
    match certainty {
        EventCertainty::Certain => "success",
        EventCertainty::Superseded => "unknown",
    }
}

struct Elements<'o>(Writer<&'o mut dyn Write>);

impl Elements<'_> {
    fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let name = format!("premis:{name}");
        self.0.write_event(Event::Start(BytesStart::new(name.as_str())))?;
        inner(self)?;
        Ok(self.0.write_event(Event::End(BytesEnd::new(name.as_str())))?)
    }

    fn text(&mut self, name: &str, text: &str) -> Result<()> {
        self.within(name, |xml| Ok(xml.0.write_event(Event::Text(BytesText::new(&field_escape::xml(text))))?))
    }

    /// JSON has escapes of its own for all that XML cannot hold: those of control characters are there already.
    fn json(&mut self, name: &str, json: &str) -> Result<()> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(json.len());
        for character in json.chars() {
            match character {
                '\u{FFFE}' | '\u{FFFF}' | '\u{7F}'..='\u{9F}' => {
                    let _ = write!(text, "\\u{:04x}", u32::from(character));
                }
                other => text.push(other),
            }
        }
        self.within(name, |xml| Ok(xml.0.write_event(Event::Text(BytesText::new(&text)))?))
    }

    fn identifier(&mut self, name: &str, kind: &str, value: &str) -> Result<()> {
        self.within(name, |xml| {
            xml.text(&format!("{name}Type"), kind)?;
            xml.text(&format!("{name}Value"), value)
        })
    }
}
