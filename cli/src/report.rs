//! The closing summary of a run, for people and for machines.

use std::collections::BTreeSet;

use mill_app::result_code::ResultCode;
use mill_app::run_summary::RunSummary;
use mill_run::{InSync, Remedy};
use serde_json::json;

use crate::args::RunOptions;
use crate::output::{bytes, line};

/// How many remarks are printed; the log has all of them.
const REMARKS_MAX: usize = 50;

/// Writes the summary: text for people, or JSON, and then what is wrong on standard error. Quietly, nothing is said of success.
/// `told`: the entries of which a line was printed already.
pub(crate) fn print(summary: &RunSummary, options: &RunOptions, exit: ResultCode, told: &BTreeSet<String>) {
    let remarks = summary.remarks_beside(told);
    if options.json {
        summary.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        line(as_json(summary, exit).to_string());
        return;
    }
    if options.quiet && matches!(exit, ResultCode::Done | ResultCode::Unchanged) {
        return;
    }
    for remark in remarks.iter().take(REMARKS_MAX) {
        line(format!("! {remark}"));
    }
    if remarks.len() > REMARKS_MAX {
        line(format!("! … and {} more; --json and the log name them all", remarks.len() - REMARKS_MAX));
    }
    line(sentence(summary, exit));
}

/// Whether nothing at all was found although something may have been expected. Then nothing is reported as in sync.
fn found_nothing(summary: &RunSummary, exit: ResultCode) -> bool {
    exit == ResultCode::Warnings && summary.totals.sum.survey.listed == 0
}

fn as_json(summary: &RunSummary, exit: ResultCode) -> serde_json::Value {
    let in_sync = if found_nothing(summary, exit) { InSync::No } else { summary.in_sync };
    let mut json = json!({
        "examined": summary.totals.examined(),
        "seconds": (summary.took.as_secs_f64() * 1000.0).round() / 1000.0,
        "in_sync": in_sync != InSync::No,
        "evidence": match in_sync {
            InSync::No => None,
            InSync::Sum => Some("sum"),
            InSync::ClosingSurvey => Some("closing survey"),
        },
        "at_least": summary.at_least, "earlier": summary.earlier, "only_in_copies": summary.only_in_copies,
        "exit_code": exit.code(), "remarks": summary.remarks,
    });
    if summary.dry_run {
        json["dry_run"] = true.into();
    }
    if let Some(first) = summary.first_run {
        json["first_run"] = first.into();
    }
    for (counter, count) in summary.totals.each() {
        json[counter.name] = count.into();
    }
    json
}

/// What a run came to, in one sentence.
pub(crate) fn sentence(summary: &RunSummary, exit: ResultCode) -> String {
    let t = &summary.totals;
    let outcomes = &t.sum.outcomes;
    let least = if summary.at_least { "at least " } else { "" };
    let would = if summary.dry_run { "would be " } else { "" };
    let mut parts = vec![
        format!("{least}{} {would}copied", outcomes.copied),
        format!("{} updated", outcomes.updated),
        format!("{} deleted", t.work.deleted),
        format!("{} unchanged", t.unchanged()),
    ];
    let more = [
        (summary.earlier, "copied for an earlier run"),
        (t.refused(), "refused"),
        (t.sum.survey.hidden, "not seen"),
        (t.sum.survey.ignored + t.work.left_out, "left out"),
        (outcomes.unread, "would be compared by their bytes"),
        (outcomes.vanished, "vanished meanwhile"),
        (outcomes.dropped, "not asked for any more"),
        (t.work.held, if t.work.held == 1 { "delete held back" } else { "deletes held back" }),
        (summary.only_in_copies, "only in the copy"),
        (t.dead_lettered(), "dead-lettered"),
    ];
    parts.extend(more.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    let listed = t.sum.survey.listed;
    let not_copied = (t.refused() + t.sum.survey.hidden + outcomes.vanished + outcomes.dropped).min(listed);
    let others = if not_copied < listed { "; the others are in sync" } else { "" };
    let mostly_not = format!("Not copied: {not_copied} of {listed} entries{others}");
    let how = match exit {
        ResultCode::Done | ResultCode::Unchanged | ResultCode::Warnings | ResultCode::Partial if summary.dry_run => {
            of_dry_run(summary, exit)
        }
        ResultCode::Done if t.changed() => "Every copy is in sync",
        ResultCode::Done | ResultCode::Unchanged => "Every copy was in sync already",
        ResultCode::Warnings if found_nothing(summary, exit) => "Nothing was there to be copied",
        ResultCode::Warnings if not_copied * 2 > listed => &mostly_not,
        ResultCode::Warnings if t.work.held > 0 => "Not all is in sync, since deletes wait for your decision",
        ResultCode::Warnings => "In sync, but for what is named above",
        ResultCode::Partial => match summary.remedy {
            Remedy::RunAgain => "Done in part: run it again",
            Remedy::SetRight => "Done in part: see to what is named above, then run it again",
            Remedy::GoOn => "Stopped before its end: run it again, and it goes on",
        },
        ResultCode::Error | ResultCode::BadArguments => "Not done",
    };
    let planned = if summary.dry_run { " to be written," } else { "" };
    format!("{how}: {}; {}{planned} in {:.1} s.", parts.join(", "), bytes(t.work.bytes), summary.took.as_secs_f64())
}

/// How a dry run ended.
fn of_dry_run(summary: &RunSummary, exit: ResultCode) -> &'static str {
    let has_unread = summary.totals.sum.outcomes.unread > 0;
    match (exit, summary.remedy) {
        (ResultCode::Partial, Remedy::RunAgain) => "Dry run, done in part: run it again",
        (ResultCode::Partial, Remedy::SetRight) => {
            "Dry run, done in part: see to what is named above, then run it again"
        }
        (ResultCode::Partial, Remedy::GoOn) => "Dry run, stopped before its end",
        _ if found_nothing(summary, exit) => "Dry run: nothing was there to be copied",
        (ResultCode::Done | ResultCode::Unchanged, _) if !summary.totals.changed() && !has_unread => {
            "Dry run: every copy is in sync already"
        }
        _ => "Dry run, nothing was changed",
    }
}

#[cfg(test)]
mod tests {
    use mill_model::RunTotals;

    use super::*;

    fn copied(copied: u64) -> RunTotals {
        let mut totals = RunTotals::default();
        totals.sum.outcomes.copied = copied;
        totals
    }

    #[test]
    fn the_json_summary_has_the_members_that_scripts_rely_on() {
        let summary = RunSummary { totals: copied(3), ..RunSummary::default() };
        let json = as_json(&summary, ResultCode::Done);
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
            "listed",
            "queued",
            "hidden",
            "ignored",
            "left_out",
            "vanished",
            "dropped",
            "earlier",
        ] {
            assert!(json[member].is_number(), "{member}");
        }
        assert_eq!((&json["copied"], &json["in_sync"]), (&3.into(), &false.into()));
    }

    #[test]
    fn what_was_copied_for_an_earlier_run_is_said_besides() {
        let summary = RunSummary { totals: copied(3), earlier: 366, ..RunSummary::default() };
        assert!(
            sentence(&summary, ResultCode::Partial)
                .contains(": 3 copied, 0 updated, 0 deleted, 0 unchanged, 366 copied for")
        );
        assert_eq!(as_json(&summary, ResultCode::Partial)["earlier"], 366);
        assert!(
            !sentence(&RunSummary { totals: copied(3), ..RunSummary::default() }, ResultCode::Done).contains("earlier")
        );
    }

    #[test]
    fn where_most_was_not_copied_the_summary_begins_with_the_counts() {
        for (listed, refused, vanished, words) in [
            (5, 3, 1, "Not copied: 4 of 5 entries; the others are in sync: "),
            (5, 5, 0, "Not copied: 5 of 5 entries: "),
            (5, 2, 0, "In sync, but for what is named above: "),
        ] {
            let mut totals = RunTotals::default();
            (totals.sum.survey.listed, totals.sum.survey.refused, totals.sum.outcomes.vanished) =
                (listed, refused, vanished);
            let sentence = sentence(&RunSummary { totals, ..RunSummary::default() }, ResultCode::Warnings);
            assert!(sentence.starts_with(words), "{sentence}");
        }
    }

    #[test]
    fn what_went_wrong_stands_in_the_sentence() {
        let mut totals = RunTotals::default();
        totals.sum.survey.refused = 2;
        totals.sum.survey.listed = 9;
        totals.sum.outcomes.vanished = 1;
        let summary = RunSummary { totals, at_least: true, ..RunSummary::default() };
        let sentence = sentence(&summary, ResultCode::Warnings);
        for part in ["2 refused", "1 vanished meanwhile", "but for what is named", "at least 0 copied"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_said_to_want_no_more_than_another_run() {
        for (remedy, words) in [
            (Remedy::RunAgain, "Done in part: run it again: "),
            (Remedy::SetRight, "Done in part: see to what is named above, then run it again: "),
            (Remedy::GoOn, "Stopped before its end: run it again, and it goes on: "),
        ] {
            let sentence = sentence(&RunSummary { remedy, ..RunSummary::default() }, ResultCode::Partial);
            assert!(sentence.starts_with(words), "{sentence}");
        }
    }

    /// The table of counters in the documentation equals that of the code.
    #[test]
    fn each_counter_stands_in_the_documents_as_in_the_code() {
        let counters = RunTotals::default().each();
        let rows = counters.iter().map(|(it, _)| format!("| `{}` | {} | {} |", it.name, it.unit, it.about));
        let table = rows.collect::<Vec<_>>().join("\n");
        let documents = include_str!("../../docs/counters.md");
        assert!(documents.contains(&table), "docs/counters.md must have:\n{table}");
    }
}
