//! Scripted checks: in a world at rest, one thing is done on purpose, and its outcome is known exactly. A new one is a file
//! here and a line in [`run`].

mod damaged_source;
mod empty_policy;
mod held_deletes;
mod missing_space;

use super::quiescence::Quiescence;

/// Runs the check that the seed drew.
pub(crate) async fn run(quiescence: &mut Quiescence<'_>, drawn: u64) -> Option<()> {
    match drawn % 4 {
        0 => held_deletes::run(quiescence).await,
        1 => missing_space::run(quiescence).await,
        2 => damaged_source::run(quiescence).await,
        _ => empty_policy::run(quiescence).await,
    }
}
