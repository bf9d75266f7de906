//! `mill audit log`: the entries of published logs.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use mill_app::audit_log::entries::{EntryReader, ShownEntry, WantedEntries};
use mill_app::audit_log::entry_filter::EntryFilter;
use mill_app::audit_log::keys::parse_keys;
use mill_app::audit_log::parse_time;
use mill_app::audit_log::readable_log::{LogChoice, ReadableLog};
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_model::ids::escape_for_display;
use mill_ports::Clock;

use crate::args::AuditLogArgs;
use crate::output::{line, print_error};

/// The pause between two looks at the checkpoint.
const FOLLOW_PAUSE: Duration = Duration::from_secs(2);

/// Runs it.
pub(super) async fn run(args: AuditLogArgs, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let clock = installation.engine.clock();
    let time = |text: &Option<String>| text.as_deref().map(|text| parse_time(text, clock.now())).transpose();
    let filter = EntryFilter {
        store: args.store,
        space: args.space,
        item: args.item,
        action: args.action,
        user: args.user,
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let choice = LogChoice { account: args.account, store: None, keys: parse_keys(&args.keys.key)? };
    let logs = super::opened(&installation, config, &choice).await?;
    let mut printer = Printer { json: args.json, accounts: logs.len() > 1, unreadable: 0 };
    let mut seen = Vec::new();
    for log in &logs {
        let reader = log.reader().await?;
        seen.push(reader.as_ref().map_or(0, EntryReader::size));
        match &reader {
            Some(reader) => printer.print_all(reader, &filter, args.last).await?,
            None => print_error(&format!("nothing is published in the audit log `{}` yet", log.origin())),
        }
        say_waiting(log).await?;
    }
    if args.follow {
        printer.follow(&logs, seen, (&*clock, &filter)).await?;
    }
    Ok(if printer.unreadable > 0 { ResultCode::Error } else { ResultCode::Done })
}

/// Says how many events are not in the log yet.
pub(super) async fn say_waiting(log: &ReadableLog) -> Result<()> {
    let waiting = log.waiting().await?;
    if waiting > 0 {
        let or_more = if waiting >= ReadableLog::WAITING_MAX { " or more" } else { "" };
        print_error(&format!(
            "{}{or_more} still wait for their places in the audit log `{}`: a running workman publishes them",
            counted(waiting as u64, "event"),
            log.origin()
        ));
    }
    Ok(())
}

struct Printer {
    json: bool,
    /// Whether the entries are of several accounts.
    accounts: bool,
    unreadable: u64,
}

impl Printer {
    async fn print_all(&mut self, reader: &EntryReader<'_>, filter: &EntryFilter, last: Option<usize>) -> Result<()> {
        let Some(last) = last else {
            return self.print_from(reader, reader.wanted(filter, 0).await?, filter).await;
        };
        let first = if filter.is_empty() { reader.size().saturating_sub(last as u64) } else { 0 };
        let mut entries = reader.entries(reader.wanted(filter, first).await?, filter);
        let mut kept = VecDeque::new();
        while let Some(entry) = entries.next().await {
            kept.push_back(entry?);
            if kept.len() > last {
                kept.pop_front();
            }
        }
        for entry in &kept {
            self.print(entry);
        }
        Ok(())
    }

    async fn print_from(
        &mut self,
        reader: &EntryReader<'_>,
        wanted: WantedEntries,
        filter: &EntryFilter,
    ) -> Result<()> {
        let mut entries = reader.entries(wanted, filter);
        while let Some(entry) = entries.next().await {
            self.print(&entry?);
        }
        Ok(())
    }

    /// Prints what is published from now on, for ever. `seen`: the sizes of the logs.
    async fn follow(
        &mut self,
        logs: &[ReadableLog],
        mut seen: Vec<u64>,
        (clock, filter): (&dyn Clock, &EntryFilter),
    ) -> Result<()> {
        loop {
            clock.sleep(FOLLOW_PAUSE).await;
            for (log, seen) in logs.iter().zip(&mut seen) {
                let reader = match log.reader().await {
                    Ok(reader) => reader.filter(|reader| reader.size() > *seen),
                    Err(error) => {
                        // It may answer again.
                        tracing::warn!("the audit log `{}` cannot be read: {error:#}", log.origin());
                        None
                    }
                };
                let Some(reader) = reader else { continue };
                self.print_from(&reader, WantedEntries::From(*seen), filter).await?;
                *seen = reader.size();
            }
        }
    }

    fn print(&mut self, entry: &ShownEntry) {
        let shown = if self.json { entry.to_json() } else { self.columns(entry) };
        match shown {
            Ok(shown) => line(shown),
            Err(why) => {
                self.unreadable += 1;
                print_error(&format!("{why:#}"));
            }
        }
    }

    fn columns(&self, entry: &ShownEntry) -> Result<String> {
        let read = entry.read()?;
        let event = &read.event;
        let subject = match &event.item {
            Some(item) => format!("{}/{}", event.space, escape_for_display(item.as_str())),
            None => event.space.to_string(),
        };
        let account = if self.accounts { format!("{}  ", read.account) } else { String::new() };
        let uncertain = if event.certainty == mill_model::EventCertainty::Superseded { " (superseded)" } else { "" };
        let size = event.size.map_or_else(|| "-".into(), |size| size.to_string());
        let checksum = event.checksums.first().map_or_else(|| "-".into(), ToString::to_string);
        Ok(format!(
            "{account}{index:>7}  {at}  {action:<25}  {store}  {subject}  {user}  {size}  {checksum}{uncertain}",
            index = entry.index,
            at = event.happened_at(),
            action = event.action.as_str(),
            store = event.store,
            user = escape_for_display(entry.shown_user()),
        ))
    }
}
