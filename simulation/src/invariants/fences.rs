//! No producer changes a row of the producers' table that a later producer has written or taken over.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

#[derive(Default)]
pub(super) struct BookIsFenced {
    /// The epoch of each producer.
    epochs: BTreeMap<String, u64>,
    /// The epoch in which each row was last written, and when.
    rows: BTreeMap<String, (u64, u64)>,
    /// The latest epoch whose producer has queued a task, and when it first did: it had taken over all rows by then.
    over: (u64, u64),
    events: u64,
}

#[derive(Deserialize)]
struct FencedLeaseRow {
    holder: String,
    epoch: u64,
}

impl BookIsFenced {
    fn row(&mut self, by: &str, sort: &str, stays: bool) -> Result<(), String> {
        let Some(epoch) = self.epochs.get(by).copied() else { return Ok(()) };
        if let Some((written, at)) = self.rows.get(sort).copied() {
            if written > epoch {
                return Err(format!(
                    "{by} of epoch {epoch} changed the row {sort} that was written in epoch {written}"
                ));
            }
            let (later, began) = self.over;
            if later > epoch && at < began {
                return Err(format!(
                    "{by} of epoch {epoch} changed the row {sort}, which epoch {later} had taken over"
                ));
            }
        }
        if stays {
            self.rows.insert(sort.to_owned(), (epoch, self.events));
        } else {
            self.rows.remove(sort);
        }
        Ok(())
    }
}

impl Invariant for BookIsFenced {
    fn name(&self) -> &'static str {
        "an earlier producer changes nothing of a later one's"
    }

    fn see(&mut self, event: &Event<'_>, _: &WorldModel) -> Result<(), String> {
        self.events += 1;
        match event {
            Event::Row { by, table: "producer-state", sort: "lease", value: Some(value), .. } => {
                let beat = serde_json::from_slice::<FencedLeaseRow>(value).ok().filter(|beat| beat.holder == *by);
                self.epochs.extend(beat.map(|beat| ((*by).to_owned(), beat.epoch)));
                Ok(())
            }
            Event::Row { by, table: "producer-state", sort, value, .. } => self.row(by, sort, value.is_some()),
            Event::Sent { by, .. } => {
                let epoch = self.epochs.get(*by).copied().unwrap_or(0);
                if epoch > self.over.0 {
                    self.over = (epoch, self.events);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
