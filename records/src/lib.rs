//! Under construction.

pub mod owners;
pub mod policies;
pub mod seals;
#[cfg(test)]
mod test_table;
