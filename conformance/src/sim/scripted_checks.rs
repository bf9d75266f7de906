//! Drills: in a world at rest, one thing is done on purpose, and what must come of it is known exactly. A new one is a
//! file here and a line in [`hold`].

mod empty_policy;
mod held_deletes;
mod missing_space;

use super::quiescence::Quiescence;

/// Holds the drill that the seed drew.
pub(crate) async fn hold(quiescence: &mut Quiescence<'_>, drawn: u64) -> Option<()> {
    match drawn % 3 {
        0 => held_deletes::hold(quiescence).await,
        1 => missing_space::hold(quiescence).await,
        _ => empty_policy::hold(quiescence).await,
    }
}
