//! The closing summary of a run, for people and for machines.

use std::time::Duration;

use mill_model::Totals;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{bytes, line};

/// What there is to say when a run has ended.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// What was done.
    pub(crate) totals: Totals,
    /// How long it took.
    pub(crate) took: Duration,
    /// Each a sentence: what was refused, held back, failed, and what to do about it.
    pub(crate) remarks: Vec<String>,
    /// Whether nothing was known of an earlier run, where a run knows of others.
    pub(crate) first_run: Option<bool>,
}

/// How many remarks are written out; the log has all of them.
const REMARKS_MAX: usize = 50;

impl Summary {
    /// Writes the summary: text for people on standard error when `json` is asked for on standard output.
    pub(crate) fn print(&self, json: bool, exit: Exit) {
        if json {
            self.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
            line(self.json(exit).to_string());
            return;
        }
        for remark in self.remarks.iter().take(REMARKS_MAX) {
            line(format!("! {remark}"));
        }
        if self.remarks.len() > REMARKS_MAX {
            line(format!("! … and {} more; --json and the log name them all", self.remarks.len() - REMARKS_MAX));
        }
        line(self.sentence(exit));
    }

    fn json(&self, exit: Exit) -> serde_json::Value {
        let t = &self.totals;
        let mut json = json!({
            "examined": t.examined, "copied": t.copied, "updated": t.updated, "deleted": t.deleted,
            "unchanged": t.unchanged, "refused": t.refused, "held": t.held, "failed": t.failed,
            "dead_lettered": t.dead_lettered, "bytes": t.bytes,
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
            "exit_code": exit.code(), "remarks": self.remarks,
        });
        if let Some(first) = self.first_run {
            json["first_run"] = first.into();
        }
        json
    }

    fn sentence(&self, exit: Exit) -> String {
        let t = &self.totals;
        let mut parts = vec![
            format!("{} copied", t.copied),
            format!("{} updated", t.updated),
            format!("{} deleted", t.deleted),
            format!("{} unchanged", t.unchanged),
        ];
        for (count, what) in [(t.refused, "refused"), (t.held, "deletes held back"), (t.dead_lettered, "given up")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let how = match exit {
            Exit::Done if t.changed() => "Every copy is in step",
            Exit::Done | Exit::Unchanged => "Every copy was in step already",
            Exit::Warnings => "In step, with warnings",
            Exit::Partial => "Done in part: run it again",
            Exit::Error | Exit::BadArguments => "Not done",
        };
        format!("{how}: {}; {} in {:.1} s.", parts.join(", "), bytes(t.bytes), self.took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_summary_has_the_members_that_scripts_rely_on() {
        let summary = Summary { totals: Totals { copied: 3, bytes: 9, ..Totals::default() }, ..Summary::default() };
        let json = summary.json(Exit::Done);
        for member in [
            "examined",
            "copied",
            "updated",
            "deleted",
            "unchanged",
            "refused",
            "held",
            "failed",
            "dead_lettered",
            "bytes",
            "seconds",
        ] {
            assert!(json[member].is_number(), "{member}");
        }
        assert_eq!(json["copied"], 3);
    }

    #[test]
    fn what_went_wrong_stands_in_the_sentence() {
        let summary = Summary { totals: Totals { refused: 2, ..Totals::default() }, ..Summary::default() };
        let sentence = summary.sentence(Exit::Warnings);
        assert!(sentence.contains("2 refused") && sentence.contains("warnings"), "{sentence}");
    }
}
