//! Under construction.

pub mod lease;
pub mod owners;
pub mod policies;
pub mod producer_state;
pub mod seals;
#[cfg(test)]
mod test_table;
