//! `mill runs`: what the last runs came to.

use anyhow::Result;
use mill_app::UsageError;
use mill_app::config::Config;
use mill_app::event_line::EventLine;
use mill_app::result_code::ResultCode;
use mill_app::run_record::{runs_of, runs_of_mirror};
use mill_app::subject_names::SubjectNames;
use mill_model::Timestamp;
use mill_records::run_log::{RunDetails, RunHead, RunId, RunLog};
use serde_json::{Value, json};

use crate::args::{RunsArgs, RunsCommand, names_of};
use crate::event_lines;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: RunsArgs, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    let mirror = args.ends.mirror(&args.mirror);
    let log = match &mirror {
        Some(request) => runs_of_mirror(request).await?,
        None => runs_of(&config().await?).await?,
    };
    let names = names_of(mirror.as_ref());
    match args.command {
        RunsCommand::List { json } => list(log.list().await?, json),
        RunsCommand::Show { id, json } => show(&log, id, json, &names).await?,
    }
    Ok(ResultCode::Done)
}

fn list(runs: Vec<(RunId, RunHead)>, as_json: bool) {
    if as_json {
        for (id, head) in &runs {
            line(head_json(id, head).to_string());
        }
        return;
    }
    if runs.is_empty() {
        return line("no run is known yet");
    }
    let rows = runs.into_iter().map(|(id, head)| {
        let exit = head.exit_code.map_or_else(|| "–".to_owned(), |code| code.to_string());
        let what = if head.verified.is_some() { "verify" } else { "copy" };
        // What is named stands above the sentence in `mill runs show`, not here.
        let sentence = head.sentence.replace("named above", "named by `mill runs show`");
        [id.to_string(), what.to_owned(), at(head.began), ended(&head), exit, sentence]
    });
    line(table(["run", "kind", "began", "ended", "exit code", "what it came to"], rows));
}

async fn show(log: &RunLog, id: Option<String>, as_json: bool, names: &SubjectNames) -> Result<()> {
    let id = match id {
        Some(id) => RunId::of_text(id),
        None => match log.list().await?.into_iter().next() {
            Some((last, _)) => last,
            None => return Err(UsageError("no run is known yet".into()).into()),
        },
    };
    let Some((head, details)) = log.get(&id).await? else {
        return Err(UsageError(format!("there is no run `{id}`; `mill runs list` names those that are kept")).into());
    };
    if as_json {
        line(whole_json(&id, (&head, &details), names).to_string());
        return Ok(());
    }
    let what = if head.verified.is_some() { "verification" } else { "run" };
    line(format!("{what} {id}, began {}, ended {}", at(head.began), ended(&head)));
    if let Some(verified) = &head.verified {
        let of = [&verified.account, &verified.space].into_iter().flatten().map(|id| format!("`{id}`"));
        let of: Vec<String> = of.collect();
        let of = if of.is_empty() { "all".to_owned() } else { of.join(", ") };
        line(format!("of {of}; the bytes of {} % of the items", verified.sample));
    }
    let items = details.items.iter().filter_map(|item| serde_json::from_str::<EventLine>(item).ok()?.event());
    items.for_each(|event| line(event_lines::text(&event, names)));
    if details.items_more > 0 {
        line(format!("… and {} more items; `--report FILE` at a run names all", details.items_more));
    }
    details.remarks.iter().for_each(|remark| line(format!("! {remark}")));
    if details.remarks_more > 0 {
        line(format!("! … and {} more", details.remarks_more));
    }
    if let Some(code) = head.exit_code {
        line(format!("{} (exit code {code})", head.sentence));
    }
    Ok(())
}

fn at(millis: u64) -> String {
    Timestamp::from_millis(millis).to_string()
}

fn ended(head: &RunHead) -> String {
    head.ended.map_or_else(|| "not: it goes on, or was killed".to_owned(), at)
}

fn head_json(id: &RunId, head: &RunHead) -> Value {
    let mut json = json!({
        "run": id.as_str(), "began": at(head.began), "ended": head.ended.map(at), "exit_code": head.exit_code,
        "sentence": head.sentence, "sums": head.sums,
    });
    if let Some(verified) = &head.verified {
        json["verified"] = serde_json::to_value(verified).unwrap_or_default();
    }
    json
}

fn whole_json(id: &RunId, (head, details): (&RunHead, &RunDetails), names: &SubjectNames) -> Value {
    let lines = details.items.iter().filter_map(|item| serde_json::from_str::<EventLine>(item).ok());
    let items: Vec<Value> = lines.filter_map(|item| serde_json::to_value(item.in_words(names)).ok()).collect();
    let mut whole = head_json(id, head);
    whole["remarks"] = details.remarks.clone().into();
    whole["remarks_more"] = details.remarks_more.into();
    whole["items"] = items.into();
    whole["items_more"] = details.items_more.into();
    whole
}
