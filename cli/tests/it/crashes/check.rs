//! What must be true when all is in sync again, whichever processes died; checked by tools other than Mill.

mod log;

use super::job::{Job, Stage};
use super::template::{NO_ENVELOPE, PROPERTY, WITH_PROPERTY};
use crate::world::walk;

/// Checks everything.
#[track_caller]
pub(super) fn all(job: &Job, stage: Stage) {
    let world = &job.world;
    for (one, two) in Job::accounts() {
        world.same(&one, &two);
        assert_eq!(world.stamps(&one), world.stamps(&two), "{stage:?}");
        nothing_stray(job, &two);
    }
    world.databases_are_whole();
    sidecars_are_there(job);
    log::says_what_happened(world);
    the_letter_is_there(job, stage);
    if stage == Stage::Restore {
        world.same("library-one/maps", "back");
        nothing_stray(job, "back");
    }
    if stage == Stage::Mirror {
        world.same("library-one/photos", "mirrored");
        nothing_stray(job, "mirrored");
    }
}

#[track_caller]
fn nothing_stray(job: &Job, folder: &str) {
    let stray = walk(&job.world.path(folder)).into_iter().find(|path| path.to_string_lossy().contains(".mill"));
    assert_eq!(stray, None, "a stray file");
}

/// Whether the dead letter is still in its queue: in flight at a dead process, from which it returns after a minute.
#[track_caller]
fn a_letter_is_under_way(job: &Job) -> bool {
    let script = "
import sqlite3
left = sqlite3.connect('data/mill.db').execute('select queue, body from message').fetchall()
assert all(queue == 7 and b'NO_ENVELOPE' in body for queue, body in left), left
print(len(left))
";
    job.world.python(&script.replace("NO_ENVELOPE", NO_ENVELOPE)).trim() != "0"
}

#[track_caller]
fn sidecars_are_there(job: &Job) {
    let (name, value) = PROPERTY;
    job.world.python(&format!(
        "
import json, sqlite3
rows = sqlite3.connect('data/mill.db').execute(
    \"select cast(sort as text), value from entry where book = 'folder-properties' and cast(partition as text) like 'thin%'\")
kept = {{sort: json.loads(value)['properties'] for sort, value in rows}}
assert sorted(kept) == ['{WITH_PROPERTY} %d' % n for n in range(5)], kept
assert all(properties['{name}'] == '{value}' for properties in kept.values()), kept
"
    ));
}

/// The body that nobody can decode is in the table unchanged, and nothing else is.
#[track_caller]
fn the_letter_is_there(job: &Job, stage: Stage) {
    let listed = job.world.mill(&["deadletters", "list", "--all", "--json"]).expect(0).out;
    let mut letters: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Some leases are so short that on a busy machine each may lapse before its task is done. The queue dead-letters such a task;
    // it was retried since, or its item was found in sync.
    let lost = |letter: &serde_json::Value| letter["reason"].as_str().unwrap().starts_with("worker lost");
    letters.retain(|letter| !lost(letter) || letter["state"]["is"] == "open");
    assert!(letters.iter().all(|letter| letter["body"] == NO_ENVELOPE), "{stage:?}: {listed}");
    let states: Vec<&str> = letters.iter().map(|letter| letter["state"]["is"].as_str().unwrap()).collect();
    let under_way = a_letter_is_under_way(job);
    if stage == Stage::Letters {
        assert!(states.contains(&"retried") && !states.contains(&"open"), "{states:?}");
        assert!(states.contains(&"discarded") || under_way, "{states:?}");
    } else {
        assert!((!states.is_empty() || under_way) && states.iter().all(|state| *state == "open"), "{states:?}");
    }
}
