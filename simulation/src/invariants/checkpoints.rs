//! The audit log only grows: in no store does a checkpoint shrink, no two checkpoints of one size differ, and the files that a
//! checkpoint names are in its store before it. The events of one commit are in the order of their ids.

use std::collections::BTreeMap;

use mill_model::{AccountId, StoreAddress};
use mill_records::audit_log::AuditLog;
use mill_transparency::{LogPath, RightEdge, Width};

use super::Invariant;
use crate::event::Event;
use crate::model::{LogModel, WorldModel, committed};

#[derive(Default)]
pub(super) struct LogsOnlyGrow {
    /// The root of each size that any checkpoint of an account's log had.
    roots: BTreeMap<(AccountId, u64), String>,
}

impl Invariant for LogsOnlyGrow {
    fn name(&self) -> &'static str {
        "an audit log only grows"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        match event {
            Event::LogFile { by, store, path: "checkpoint", .. } => {
                let Some(log) = model.audit.logs.get(*store) else { return Ok(()) };
                self.checkpoint(store, log).map_err(|why| format!("{by} wrote the checkpoint of {store}: {why}"))
            }
            Event::Row { by, table, sort: "state", value: Some(value), .. } if *table == AuditLog::TABLE => {
                if committed(value).is_sorted() {
                    return Ok(());
                }
                Err(format!("{by} commits events in another order than that of their ids"))
            }
            _ => Ok(()),
        }
    }
}

impl LogsOnlyGrow {
    fn checkpoint(&mut self, store: &StoreAddress, log: &LogModel) -> Result<(), String> {
        let Some((size, root)) = log.checkpoints.last() else { return Ok(()) };
        if let [.., (before, _), _] = &log.checkpoints[..]
            && size < before
        {
            return Err(format!("it has {size} entries, where the one before had {before}"));
        }
        let known = self.roots.entry((store.account.clone(), *size)).or_insert_with(|| root.clone());
        if known != root {
            return Err(format!("of {size} entries it has the root {root}, and another one had {known}"));
        }
        match needed(*size).into_iter().find(|path| !has(log, *path)) {
            Some(path) => Err(format!("it names {size} entries, and {path} is not there")),
            None => Ok(()),
        }
    }
}

/// The files at the end of a log of this size.
fn needed(size: u64) -> Vec<LogPath> {
    let mut needed = RightEdge::needs(size);
    let last = size.saturating_sub(1) / 256;
    let width = u16::try_from(size - last * 256).ok().and_then(Width::new);
    needed.extend(width.map(|width| LogPath::Entries { index: last, width }));
    needed
}

fn has(log: &LogModel, path: LogPath) -> bool {
    [path, path.full()].iter().any(|path| log.paths.contains(&path.to_string()))
}
