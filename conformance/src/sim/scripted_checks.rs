//! Drills: in a world at rest, one thing is done on purpose, and what must come of it is known exactly. A new one is a
//! file here and a line in [`hold`].

mod empty_policy;
mod held_deletes;
mod missing_space;

use super::rest::Rest;

/// Holds the drill that the seed drew.
pub(crate) async fn hold(rest: &mut Rest<'_>, drawn: u64) -> Option<()> {
    match drawn % 3 {
        0 => held_deletes::hold(rest).await,
        1 => missing_space::hold(rest).await,
        _ => empty_policy::hold(rest).await,
    }
}
